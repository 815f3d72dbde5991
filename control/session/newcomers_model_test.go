package session

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gate"
)

// What the model's gateway takes for a message, for the beginning of an IKE SA and
// for its IKE_AUTH. All devices together are a minute's work: twice what each of
// them is patient.
const (
	modelDevices = 10_000
	modelReceive = 100 * time.Microsecond
	modelBegin   = 2 * time.Millisecond
	modelFinish  = 4 * time.Millisecond
	modelTurn    = 10 * time.Millisecond // of the receiver, or as long as the shard's
	modelQueue   = 4096                  // messages that wait to be received
	modelTrip    = 20 * time.Millisecond
)

// When devices come back that are more work than they have patience, the gateway is
// never idle, does nothing in vain, and serves all in the order in which they came:
// gate, waiting room and bound of those who were begun are the real ones, time,
// network, processor and devices (which repeat after 1, 2, 4, 8, 16 s, and begin
// anew after 30) are a model.
func TestResumptionStormModel(t *testing.T) {
	for name, cfg := range map[string]gate.Config{
		"room for all": {MaxHalfOpen: 60000, CookieAt: 30000, MaxHalfOpenPrefix: 60000, CookieAtPrefix: 30000},
		"cookies":      {MaxHalfOpen: modelDevices / 6, CookieAt: 100, MaxHalfOpenPrefix: modelDevices / 6, CookieAtPrefix: 20},
	} {
		t.Run(name, func(t *testing.T) {
			m := newStormModel(t, cfg)
			m.run()
			slices.Sort(m.back)
			last := m.back[len(m.back)-1]
			t.Logf("back: p50 %v, p99 %v, the last %v; the gateway did nothing for %v; %d began anew, %d were begun in vain; %d messages, of which %d were asked for cookies and %d lost",
				m.back[len(m.back)/2], m.back[len(m.back)*99/100], last, last-m.worked, m.again, m.vain, m.messages, m.cookies, m.lost)
			if idle := last - m.worked; idle > last/50 {
				t.Errorf("the gateway did nothing for %v of %v", idle, last)
			}
			if m.vain > modelDevices/50 {
				t.Errorf("%d IKE SAs in vain", m.vain)
			}
		})
	}
}

type stormModel struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Duration
	events  events
	gate    *gate.Gate
	room    *newcomers
	fresh   fresh
	devices []*modelDevice

	arrived, inbox []modelMessage
	begun          map[initKey]*modelSA
	busy           bool
	turn           int
	share          time.Duration // of the receiver: what the shard had

	back                                 []time.Duration
	worked                               time.Duration
	messages, lost, cookies, again, vain int
}

// modelDevice: life is its attempt, said which message it repeats.
type modelDevice struct {
	number, life, said int
	remote             netip.AddrPort
	spi                uint64
	cookie             []byte
	sa                 *modelSA // that the gateway answered with
	up                 bool
}

type modelMessage struct {
	d      *modelDevice
	spi    uint64
	life   int
	cookie []byte
	sa     *modelSA // of an IKE_AUTH
}

type modelSA struct {
	sa
	key      initKey
	d        *modelDevice
	life     int // -1: of an attempt that its device gave up
	finished bool
}

// event of the model; those of one moment in the order in which they were made.
type event struct {
	at time.Duration
	n  int
	do func()
}

type events struct {
	list []event
	n    int
}

func (e *events) Len() int { return len(e.list) }
func (e *events) Less(i, j int) bool {
	a, b := &e.list[i], &e.list[j]
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n, b.n)) < 0
}
func (e *events) Swap(i, j int) { e.list[i], e.list[j] = e.list[j], e.list[i] }
func (e *events) Push(x any)    { e.list = append(e.list, x.(event)) }
func (e *events) Pop() any {
	x := e.list[len(e.list)-1]
	e.list = e.list[:len(e.list)-1]
	return x
}

func newStormModel(t *testing.T, cfg gate.Config) *stormModel {
	g, err := gate.New(cfg, gate.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	m := &stormModel{
		t: t, random: rand.New(rand.NewPCG(1, 2)), gate: g, room: newNewcomers(g, new([16]byte), newStats(), 1),
		begun: make(map[initKey]*modelSA),
	}
	for i := range modelDevices {
		d := &modelDevice{number: i, remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 500)}
		m.devices = append(m.devices, d)
		m.after(time.Duration(m.random.Int64N(int64(time.Second))), func() { m.begin(d) })
	}
	return m
}

func (m *stormModel) run() {
	for len(m.back) < modelDevices {
		e := heap.Pop(&m.events).(event)
		if m.now = e.at; m.now > 10*time.Minute {
			m.t.Fatalf("%d of %d devices are back after 10 minutes", len(m.back), modelDevices)
		}
		e.do()
	}
}

func (m *stormModel) after(d time.Duration, do func()) {
	m.events.n++
	heap.Push(&m.events, event{m.now + d, m.events.n, do})
}

func (m *stormModel) time() time.Time { return time.Unix(1e9, 0).Add(m.now) }

func (m *stormModel) begin(d *modelDevice) {
	d.life++
	d.spi, d.cookie, d.sa = m.random.Uint64(), nil, nil
	m.say(d)
	life := d.life
	m.after(30*time.Second, func() {
		if !d.up && d.life == life {
			m.again++
			m.begin(d)
		}
	})
}

// say something new, and repeat it.
func (m *stormModel) say(d *modelDevice) {
	d.said++
	m.repeat(d, d.said, 0)
}

func (m *stormModel) repeat(d *modelDevice, said, tries int) {
	if d.up || d.said != said || tries == 6 {
		return
	}
	m.messages++
	msg := modelMessage{d: d, spi: d.spi, life: d.life, cookie: d.cookie, sa: d.sa}
	m.after(modelTrip/2, func() {
		if len(m.arrived) >= modelQueue && msg.sa == nil {
			m.lost++
			return
		}
		m.arrived = append(m.arrived, msg)
		m.serve()
	})
	m.after(time.Second<<tries, func() { m.repeat(d, said, tries+1) })
}

// octets of an IKE_SESSION_RESUME: cookie, nonce, and what stands for the ticket.
func (m *modelMessage) octets() []byte {
	first, payloads := byte(40), []byte(nil)
	add := func(next byte, body []byte) {
		payloads = binary.BigEndian.AppendUint16(append(payloads, next, 0), uint16(4+len(body)))
		payloads = append(payloads, body...)
	}
	if m.cookie != nil {
		first = 41
		add(40, append([]byte{1, 0, 0x40, 0x06}, m.cookie...))
	}
	add(41, binary.BigEndian.AppendUint64(make([]byte, 16), m.spi))
	add(0, binary.BigEndian.AppendUint32([]byte{1, 0, 0x40, 0x1d}, uint32(m.d.number)))
	b := append(binary.BigEndian.AppendUint64(nil, m.spi), make([]byte, 8)...)
	b = append(b, first, 0x20, 38, 0x08, 0, 0, 0, 0)
	return append(binary.BigEndian.AppendUint32(b, uint32(28+len(payloads))), payloads...)
}

// serve has the gateway's processor do the next thing: receiver and shard in turn.
func (m *stormModel) serve() {
	if m.busy {
		return
	}
	m.turn++
	cost := time.Duration(0)
	if m.turn%2 == 0 {
		cost = m.receive()
	}
	if cost == 0 {
		cost = m.shard()
		m.share = max(cost, modelTurn)
	}
	if cost == 0 {
		cost = m.receive()
	}
	if cost == 0 {
		if all := m.room.len(); all > 0 {
			m.after(heldFor, m.serve)
		}
		return
	}
	m.busy = true
	m.worked += cost
	m.after(cost, func() { m.busy = false; m.serve() })
}

func (m *stormModel) receive() (cost time.Duration) {
	for ; cost < m.share && len(m.arrived) > 0; cost += modelReceive {
		msg := m.arrived[0]
		m.arrived = m.arrived[1:]
		if msg.sa == nil {
			m.first(msg)
		} else if len(m.inbox) < inboxLen {
			m.inbox = append(m.inbox, msg)
		}
	}
	return cost
}

// first message, as Server.admitMessage has it.
func (m *stormModel) first(msg modelMessage) {
	data := msg.octets()
	key := initKey{msg.d.remote, msg.spi, gate.Sum64(new([16]byte), data)}
	var buffer [answerBuffer]byte
	res := m.gate.Check(m.time(), msg.d.remote, data, buffer[:])
	if res.Verdict == gate.Answer && !m.room.knows(key) {
		m.cookies++
		cookie := slices.Clone(res.Answer[36:])
		m.after(modelTrip/2, func() {
			if d := msg.d; d.life == msg.life && d.sa == nil {
				d.cookie = cookie
				m.say(d)
			}
		})
		return
	}
	if m.room.put(m.time(), packet{header: res.Header, data: data, remote: msg.d.remote}, key.sum) {
		if sa := m.begun[key]; sa != nil {
			m.answer(sa)
		}
	}
}

func (m *stormModel) answer(s *modelSA) {
	m.after(modelTrip/2, func() {
		if d := s.d; d.life == s.life && d.sa == nil {
			d.sa = s
			m.say(d)
		}
	})
}

// shard is what shard.run does: IKE_AUTH, then newcomers.
func (m *stormModel) shard() (cost time.Duration) {
	for n := 0; n < burst && len(m.inbox) > 0; n, m.inbox = n+1, m.inbox[1:] {
		if s := m.inbox[0].sa; !s.finished {
			cost += modelFinish
			m.finish(s)
		}
	}
	most := welcomed
	if len(m.inbox) > 0 {
		most = welcomedBusy
	}
	for range min(most, m.fresh.room(m.time())) {
		p, key, ok := m.room.take(m.time(), true)
		if !ok {
			break
		}
		if m.gate.Open(p.remote.Addr()) != gate.ReasonNone {
			m.room.over(key)
			continue
		}
		cost += modelBegin
		b := p.remote.Addr().As4()
		s := &modelSA{key: key, d: m.devices[int(b[2])<<8|int(b[3])], life: -1}
		if s.d.spi == key.spi {
			s.life = s.d.life
		}
		m.begun[key] = s
		m.fresh.add(m.time(), &s.sa)
		m.after(30*time.Second, func() {
			if !s.finished {
				m.vain++
				m.end(s)
			}
		})
		m.answer(s)
	}
	return cost
}

func (m *stormModel) finish(s *modelSA) {
	m.end(s)
	m.after(modelTrip/2, func() {
		if s.d.life == s.life && !s.d.up {
			s.d.up = true
			m.back = append(m.back, m.now)
		} else {
			m.vain++
		}
	})
}

// end of what is half-open.
func (m *stormModel) end(s *modelSA) {
	s.finished = true
	m.fresh.remove(&s.sa)
	m.gate.Close(s.key.remote.Addr())
	m.room.over(s.key)
	delete(m.begun, s.key)
}
