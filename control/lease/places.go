package lease

import "github.com/roamgate/roamgate/dataplane/slab"

// places are where a table has its leases and devices. What a batch drops can come
// back by a rollback, so it is given back when that is over.
type places struct {
	ofLeases    slab.Of[lease]
	ofDevices   slab.Of[device]
	gone        []*lease
	goneDevices []*device
}

func (p *places) giveBack() {
	for i, l := range p.gone {
		l.home.Put(l)
		p.gone[i] = nil
	}
	for i, d := range p.goneDevices {
		d.home.Put(d)
		p.goneDevices[i] = nil
	}
	p.gone, p.goneDevices = p.gone[:0], p.goneDevices[:0]
}

func (t *table) newLease(of lease) *lease {
	l, home := t.ofLeases.Get()
	*l = of
	l.home = home
	t.leases[l.key] = l
	return l
}

func (t *table) newDevice(name string) *device {
	d, home := t.ofDevices.Get()
	d.home, d.name = home, name
	t.devices[name] = d
	return d
}

// drop a lease that is in no queue.
func (t *table) drop(l *lease) {
	delete(t.leases, l.key)
	t.gone = append(t.gone, l)
	t.undo = append(t.undo, func() { t.leases[l.key] = l })
}
