package database

import (
	"context"
	"database/sql"
	"sync"
)

// writer of SQLite, which has one. Those that wait for it share one transaction,
// each in a savepoint of its own, and so one wait for the disk.
type writer struct {
	mu      sync.Mutex
	waiting []*job
	leading bool
	// Statements, prepared once: parsing them costs more than running them.
	// PostgreSQL's driver does that by itself. The leader alone uses them.
	prepared map[string]*sql.Stmt
	wanted   []string
}

type job struct {
	ctx  context.Context
	work func(*Tx) error
	err  error
	done chan struct{}
}

// maxBatch bounds how many share a transaction, and so how long one waits.
const maxBatch = 64

// maxPrepared bounds statements; all packages together have about 200 texts.
const maxPrepared = 400

// statement that is prepared, nil if it isn't. It is prepared between two
// transactions, because in one it would take a second connection.
func (t *Tx) statement(text string) *sql.Stmt {
	if t.writer == nil {
		return nil
	}
	if s, ok := t.writer.prepared[text]; ok {
		return t.sql.StmtContext(t.ctx, s)
	}
	t.writer.wanted = append(t.writer.wanted, text)
	return nil
}

func (d *DB) prepare(ctx context.Context) {
	w := &d.writer
	for _, text := range w.wanted {
		if w.prepared[text] != nil || len(w.prepared) >= maxPrepared {
			continue
		}
		// Without one it goes on as before.
		if s, err := d.PrepareContext(ctx, text); err == nil {
			w.prepared[text] = s
		}
	}
	w.wanted = w.wanted[:0]
}

// share queues the work; the first who comes leads those who come meanwhile.
func (d *DB) share(ctx context.Context, work func(*Tx) error) error {
	j := &job{ctx: ctx, work: work, done: make(chan struct{})}
	w := &d.writer
	w.mu.Lock()
	w.waiting = append(w.waiting, j)
	lead := !w.leading
	w.leading = true
	w.mu.Unlock()
	if lead {
		// Who leads may be long done with its own work; the rest is on a
		// goroutine, so that its caller doesn't wait.
		go d.lead()
	}
	<-j.done
	return j.err
}

func (d *DB) lead() {
	w := &d.writer
	for {
		w.mu.Lock()
		n := min(len(w.waiting), maxBatch)
		batch := w.waiting[:n:n]
		w.waiting = w.waiting[n:]
		if n == 0 {
			w.waiting, w.leading = nil, false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		err := d.batch(batch)
		for _, j := range batch {
			if err != nil && j.err == nil {
				j.err = err
			}
			close(j.done)
		}
	}
}

// batch returns the error of the commit; each job has its own besides.
func (d *DB) batch(jobs []*job) error {
	// One caller that goes away must not take the work of others with it.
	ctx := context.Background()
	d.prepare(ctx)
	t, err := d.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer t.Rollback()
	for _, j := range jobs {
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		if _, err := t.ExecContext(ctx, "SAVEPOINT job"); err != nil {
			return err
		}
		if j.err = run(&Tx{Engine: SQLite, sql: t, ctx: ctx, writer: &d.writer}, j.work); j.err != nil {
			if _, err := t.ExecContext(ctx, "ROLLBACK TO job"); err != nil {
				return err
			}
		}
		if _, err := t.ExecContext(ctx, "RELEASE job"); err != nil {
			return err
		}
	}
	return t.Commit()
}
