package directory_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/gatewayd/database"
)

var attackNoon = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

func attackRequest(user, device string) directory.Request {
	return directory.Request{
		ID: otp.New().ID, Device: device, User: user, Secret: []byte("sealed"), Created: attackNoon, CreatedBy: "alice", Expires: attackNoon.Add(time.Hour),
	}
}

// Two administrators at the same moment can't promise one device to two users:
// the second one's device would be refused by the directory when it comes.
func TestAttackOneDeviceForTwo(t *testing.T) {
	d := directorytest.StartPostgres(t).Directory(t)
	for round := range 20 {
		device := fmt.Sprintf("phone-%d", round)
		var all sync.WaitGroup
		var errs [2]error
		for i := range errs {
			all.Go(func() {
				errs[i] = d.CreateRequest(t.Context(), directory.By{Name: "alice"}, attackRequest(fmt.Sprintf("user-%d", i), device), 100)
			})
		}
		all.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), directory.ErrOwner) {
			t.Fatalf("round %d: %v", round, errs)
		}
	}
}

// A server whose default is another isolation changes nothing.
func TestAttackIsolation(t *testing.T) {
	p := directorytest.StartPostgres(t)
	db := p.Open(t, p.Create(t))
	if _, err := db.ExecContext(t.Context(), `ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'serializable'`); err != nil {
		t.Fatal(err)
	}
	// Only connections from now on have it.
	db.SetMaxIdleConns(0)
	d, err := directory.New(t.Context(), database.New(db, database.Postgres))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 10 {
				err := d.CreateRequest(t.Context(), directory.By{Name: "alice"}, attackRequest("bob", fmt.Sprintf("phone-%d-%d", i, j)), 1000)
				if err != nil {
					t.Errorf("request %d of %d: %v", j, i, err)
					return
				}
			}
		})
	}
	all.Wait()
}
