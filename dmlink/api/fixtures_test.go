package api

import (
	"reflect"
	"time"

	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/task"
)

// sampleTask reads a node.
func sampleTask(id string) store.Task {
	if id == "" {
		return store.Task{}
	}
	return store.Task{
		ID: id, Kind: "query", Detail: `{"uri":"./DevInfo"}`, Created: time.Now(), By: "test", Expires: time.Now().Add(100 * 24 * time.Hour),
		Command: &syncml.Op{Verb: syncml.Get, Items: []syncml.Item{{Target: syncml.Location{URI: "./DevInfo"}}}},
	}
}

func taskType(name string) task.Type {
	return task.Type{Name: name, Make: func(task.Values) (task.Order, error) { return task.Order{}, nil }}
}

// newIn is a pointer to a zero In of a row.
func newIn(o *Operation) any { return reflect.New(o.in).Interface() }
