// Package sessiontest has what tests of DM sessions stand on: a queue and
// accounts in memory, and the suite that every session.Queue and
// session.Accounts passes.
package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/roamgate/roamgate/dmlink/session"
)

// Memory is a Queue and Accounts that forget everything at the end.
type Memory struct {
	mu       sync.Mutex
	tasks    map[string][]*task
	reports  []session.Report
	accounts map[string]*session.Account
	fail     error
}

var (
	_ session.Queue    = (*Memory)(nil)
	_ session.Accounts = (*Memory)(nil)
)

type task struct {
	session.Task
	outcome *session.Outcome
}

// NewMemory is empty.
func NewMemory() *Memory {
	return &Memory{tasks: map[string][]*task{}, accounts: map[string]*session.Account{}}
}

// Put tasks behind those that the device has.
func (m *Memory) Put(device string, tasks ...session.Task) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range tasks {
		m.tasks[device] = append(m.tasks[device], &task{Task: t})
	}
}

// PutAccount of a device.
func (m *Memory) PutAccount(device string, a session.Account) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accounts[device] = &a
}

// Fail makes all methods of the queue return err from now on; nil ends it.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Outcome of a task, nil if it has none, and how often it was claimed.
func (m *Memory) Outcome(device, id string) (*session.Outcome, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tasks[device] {
		if t.ID == id {
			return t.outcome, t.Attempt
		}
	}
	return nil, 0
}

// Reports so far.
func (m *Memory) Reports() []session.Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.reports)
}

// Next implements session.Queue.
func (m *Memory) Next(_ context.Context, device string, except []string, n int) ([]session.Task, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var next []session.Task
	for _, t := range m.tasks[device] {
		if len(next) < n && t.outcome == nil && !slices.Contains(except, t.ID) {
			next = append(next, t.Task)
		}
	}
	return next, m.fail
}

// Claim implements session.Queue.
func (m *Memory) Claim(_ context.Context, device string, claims []session.Claim) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	granted := make([]bool, len(claims))
	for i, c := range claims {
		for _, t := range m.tasks[device] {
			if t.ID == c.Task && t.outcome == nil && t.Attempt == c.Attempt {
				t.Attempt++
				granted[i] = true
			}
		}
	}
	return granted, nil
}

// Record implements session.Queue.
func (m *Memory) Record(_ context.Context, device string, r session.Report) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.reports = append(m.reports, r)
	if a := m.accounts[device]; a != nil && r.InfoDigest != nil {
		a.InfoDigest = r.InfoDigest
	}
	for _, o := range r.Outcomes {
		for _, t := range m.tasks[device] {
			if t.ID == o.Task && t.outcome == nil {
				t.outcome = &o
			}
		}
	}
	return nil
}

var errNoDevice = errors.New("no such device")

// Account implements session.Accounts.
func (m *Memory) Account(_ context.Context, device string) (session.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[device]
	if a == nil {
		return session.Account{}, session.ErrNoAccount
	}
	c := *a
	c.Idle = !slices.ContainsFunc(m.tasks[device], func(t *task) bool { return t.outcome == nil })
	c.Password, c.ServerPassword = bytes.Clone(a.Password), bytes.Clone(a.ServerPassword)
	return c, nil
}

// UseNonce implements session.Accounts.
func (m *Memory) UseNonce(_ context.Context, device string, used, next []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[device]
	switch {
	case a == nil:
		return errNoDevice
	case !bytes.Equal(a.Nonce, used):
		return session.ErrNonceUsed
	}
	a.Nonce = bytes.Clone(next)
	return nil
}

// ServerNonce implements session.Accounts.
func (m *Memory) ServerNonce(_ context.Context, device string, next []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[device]
	if a == nil {
		return errNoDevice
	}
	a.ServerNonce = bytes.Clone(next)
	return nil
}
