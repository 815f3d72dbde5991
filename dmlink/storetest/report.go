package storetest

import (
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
)

// reports of many outcomes: each command has its own, whatever the others have,
// and those that end the device are taken with the rest.
func (s *suite) reports() {
	ctx := s.t.Context()
	s.enroll("a")
	s.enroll("b")
	var commands, tasks []string
	for range 6 {
		c, t := s.put(s.order(session.Idempotent, exec("./A")), "a")
		commands, tasks = append(commands, c), append(tasks, t)
	}
	others, otherTask := s.put(s.order(session.Idempotent, exec("./A")), "b")
	said := []session.Value{{URI: "./A", Data: []byte("7")}}
	report := []session.Outcome{
		{Task: commands[5], State: session.Unknown},
		{Task: commands[0], State: session.Answered, Code: 200, Results: said},
		{Task: commands[1], State: session.Answered, Code: 406},
		{Task: commands[1], State: session.Answered, Code: 500}, // the first counts
		{Task: others, State: session.Answered, Code: 200},      // another device's
		{Task: "nobody's"}, {Task: "12345678"},
		{Task: commands[2], State: session.Answered, Code: 202},
		{Task: commands[3], State: session.Confirmed, Code: 200},
	}
	expect := func(states ...store.CommandState) {
		s.t.Helper()
		for i, want := range states {
			s.state(tasks[i], "a", want)
		}
		s.state(otherTask, "b", store.Waiting)
		if c := s.command(tasks[1], "a"); c.Code != 406 {
			s.t.Errorf("code %d, want 406", c.Code)
		}
		a, err := s.Answer(ctx, s.command(tasks[0], "a").ID)
		s.must(err)
		if len(a.Results) != 1 || string(a.Results[0].Data) != "7" {
			s.t.Errorf("answer %+v", a)
		}
	}
	for range 2 {
		s.record("a", report...)
		expect(store.Answered, store.Answered, store.Accepted, store.Confirmed, store.Waiting, store.Unknown)
	}
	// Only what was said, without anything else.
	s.record("a", session.Outcome{Task: commands[5], State: session.Answered, Code: 200, Results: said})
	expect(store.Answered, store.Answered, store.Accepted, store.Confirmed, store.Waiting, store.Answered)
	wipe, wipeTask := s.orderWipe("a")
	s.record("a",
		session.Outcome{Task: commands[4], State: session.Answered, Code: 200, Results: said},
		session.Outcome{Task: wipe, State: session.Answered, Code: 200})
	expect(store.Answered, store.Answered, store.Accepted, store.Confirmed, store.Answered, store.Answered)
	s.state(wipeTask, "a", store.Answered)
	s.wipe("a", store.WipeClosing)
}
