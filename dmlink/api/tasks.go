package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/task"
)

func (s *api) tasks() {
	bind(s, TaskTypes, s.taskTypes)
	for name, r := range taskPlace {
		bind(s, r, s.place(name))
	}
	bind(s, TaskList, func(ctx context.Context, c *Call, in *Paging) (Page[Task], error) {
		before, err := taskBefore(in.After)
		if err != nil {
			return Page[Task]{}, err
		}
		list, err := s.Tasks.Tasks(ctx, before, in.Limit+1)
		if err != nil {
			return Page[Task]{}, err
		}
		return pageOf(list, in.Limit, func(k store.Task) Task { return taskOf(c, k) }, func(k store.Task) string {
			return strconv.FormatInt(k.Created.UnixMicro(), 10) + " " + k.ID
		}), nil
	})
	bind(s, TaskShow, func(ctx context.Context, c *Call, in *OneTask) (Task, error) {
		k, err := s.Tasks.Task(ctx, in.Task)
		return taskOf(c, k), err
	})
	bind(s, TaskCommands, func(ctx context.Context, _ *Call, in *TaskCommandsOf) (Page[Command], error) {
		if _, err := s.Tasks.Task(ctx, in.Task); err != nil {
			return Page[Command]{}, err
		}
		list, err := s.Tasks.CommandsOfTask(ctx, in.Task, in.After, in.Limit+1)
		if err != nil {
			return Page[Command]{}, err
		}
		return pageOf(list, in.Limit, commandOf, func(k store.Command) string { return k.Device }), nil
	})
	bind(s, TaskAnswer, func(ctx context.Context, _ *Call, in *OneCommand) (Answer, error) {
		a, err := s.Tasks.Answer(ctx, in.Command)
		return answerOf(a), err
	})
	bind(s, TaskCancel, func(ctx context.Context, _ *Call, in *CancelTask) (Cancelled, error) {
		if _, err := s.Tasks.Task(ctx, in.Task); err != nil {
			return Cancelled{}, err
		}
		n, err := s.Tasks.Cancel(ctx, in.Task)
		return Cancelled{n}, err
	})
	bind(s, TaskWipes, func(ctx context.Context, _ *Call, in *ListWipes) (Page[Wipe], error) {
		list, err := s.Tasks.Wipes(ctx, store.WipeState(in.State), in.After, in.Limit+1)
		if err != nil {
			return Page[Wipe]{}, err
		}
		return pageOf(list, in.Limit, wipeOf, func(w store.Wipe) string { return w.Device }), nil
	})
}

func (s *api) taskTypes(context.Context, *Call, *None) (Page[TaskType], error) {
	types := s.Desk.Types()
	return pageOf(types.Names(), len(types), func(name string) TaskType {
		one := types[name]
		v := TaskType{
			Name: name, Help: one.Help, Parameters: []TaskParameter{}, Lifetime: int64(one.Lifetime / time.Second), Closes: one.Closes,
			Roles: taskPlace[name].May.Names(),
		}
		for _, p := range one.Parameters {
			v.Parameters = append(v.Parameters, TaskParameter(p))
		}
		return v
	}, nil), nil
}

// place a task of a type.
func (s *api) place(name string) func(context.Context, *Call, *PlaceTask) (Placed, error) {
	return func(ctx context.Context, c *Call, in *PlaceTask) (Placed, error) {
		b := in.Body
		if err := s.chosenNode(c, name, b.Values); err != nil {
			return Placed{}, err
		}
		p, err := s.Desk.Place(ctx, task.Request{
			ID: b.ID, Type: name, Values: b.Values, By: c.By.String(), Lifetime: time.Duration(b.ValidSeconds) * time.Second,
			Target: task.Target{Device: b.Target.Device, IMEI: b.Target.IMEI, IMSI: b.Target.IMSI, Phone: b.Target.Phone, User: b.Target.User, Group: b.Target.Group},
		})
		if err != nil {
			return Placed{}, err
		}
		if s.Options.Placed != nil {
			s.Options.Placed(p.ID)
		}
		return Placed{p.ID, p.Devices, p.Expires}, nil
	}
}

// chosenNode: a type that executes one node, and lets another be named for other
// kinds of devices, would execute any, wipes included. Who names another one has
// to be among those who may execute any.
func (s *api) chosenNode(c *Call, name string, values map[string]string) error {
	exec := taskPlace["exec"].Operation
	for _, p := range s.Desk.Types()[name].Parameters {
		if v, ok := values[p.Name]; p.Name == "uri" && p.Default != "" && ok && v != p.Default && !c.May(exec) {
			return newProblem(http.StatusForbidden, fmt.Sprintf("to %s with another node than %s needs one of the roles %s; %s has %s", name, p.Default, exec.May, c.By, c.Roles),
				"Leave out uri.")
		}
	}
	return nil
}

// taskBefore is what a cursor of tasks says.
func taskBefore(after string) (k store.Task, err error) {
	if after == "" {
		return k, nil
	}
	at, id, ok := strings.Cut(after, " ")
	us, err := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok || id == "" {
		return k, fmt.Errorf("%w: after %.100q", errNoNumber, after)
	}
	return store.Task{ID: id, Created: time.UnixMicro(us).UTC()}, nil
}

// hidden stands for a value that the caller may not see.
const hidden = "(hidden)"

func taskOf(c *Call, k store.Task) Task {
	v := Task{ID: k.ID, Type: k.Kind, Group: k.Group, Created: k.Created, By: k.By, Expires: k.Expires, Closes: k.Closes}
	// Schedules and policies keep other things there.
	if err := json.Unmarshal([]byte(k.Detail), &v.Values); err != nil {
		v.Values = nil
	}
	row, ok := taskPlace[k.Kind]
	for name := range v.Values {
		if (name == "value" || name == "text") && (!ok || !c.May(row.Operation)) {
			v.Values[name] = hidden
		}
	}
	return v
}

func commandOf(k store.Command) Command {
	return Command{
		ID: k.ID, Task: k.Task, Device: k.Device, State: string(k.State), Done: k.Succeeded(), Attempt: k.Attempt,
		Sent: k.Claimed, Code: k.Code, Ended: k.Ended,
	}
}

func wipeOf(w store.Wipe) Wipe {
	return Wipe{
		Device: w.Device, Task: w.Task, State: string(w.State), Reason: w.Reason, Expires: w.Expires, Tries: w.Tries, Trouble: w.Trouble, Closed: w.Closed,
	}
}

func answerOf(a store.Answer) Answer {
	var v Answer
	for _, p := range a.Parts {
		v.Parts = append(v.Parts, AnswerPart{URI: p.URI, Code: int(p.Code)})
	}
	for _, r := range a.Results {
		v.Results = append(v.Results, nodeOf(r))
	}
	return v
}

func nodeOf(r session.Value) NodeValue {
	v := NodeValue{URI: r.URI, Format: r.Format, Type: r.Type}
	v.setData(r.Data)
	return v
}

// setData as text, or in base64 if it is none.
func (v *NodeValue) setData(data []byte) {
	if v.Base64 = !utf8.Valid(data); v.Base64 {
		v.Data = base64.StdEncoding.EncodeToString(data)
	} else {
		v.Data = string(data)
	}
}
