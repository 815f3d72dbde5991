package enroll_test

import (
	"testing"

	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// TestNamesLikeIDs: a user whose name could be a request's ID enrolls by it as
// others do, and by ID, and what somebody guesses counts once.
func TestNamesLikeIDs(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{SourceBurst: 100})
	for _, user := range []string{"margaret", "mary-jane", "oooooooo", "bob"} {
		for _, byID := range []bool{false, true} {
			q, code, err := w.CreateRequest(t.Context(), admin, enroll.NewRequest{User: user, Device: "phone-of-" + user})
			if err != nil {
				t.Fatal(err)
			}
			name := user
			if byID {
				name = q.ID.String()
			}
			apply := func(password string) (enroll.Issued, error) {
				login, err := otp.ParseLogin(name, password)
				if err != nil {
					t.Fatal(err)
				}
				return w.Enroll(t.Context(), enroll.Application{
					Skin: "est", Source: phone, ID: login.ID, User: login.User, Proof: enroll.Proof{Password: &login.Password}, Key: catest.NewKey(t).Public(),
				})
			}
			wrong := otp.New()
			_, err = apply(wrong.Password.Reveal())
			wantRefusal(t, err, enroll.WrongPassword)
			w.settle()
			if q, err = w.dir.Request(t.Context(), q.ID); err != nil || q.Guesses != 1 {
				t.Errorf("%s: %d guesses, %v", name, q.Guesses, err)
			}
			if issued, err := apply(code.Password.Reveal()); err != nil || issued.User != user {
				t.Errorf("%s: enrolled for %q, %v", name, issued.User, err)
			}
		}
	}
}
