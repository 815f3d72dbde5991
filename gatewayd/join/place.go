package join

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/client"
	wire "github.com/roamgate/roamgate/enrollment/join"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/profile"
)

// place is the folder to be, and what lies beside it until it is there.
type place struct {
	out, joining string
}

// ErrExists: there is something at --out, which is never overwritten.
var ErrExists = errors.New("exists already")

func newPlace(out string) (*place, error) {
	out, err := filepath.Abs(out)
	if err != nil {
		return nil, err
	}
	p := &place{out: out, joining: filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".joining")}
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("%s: %w; name another folder with --out", out, ErrExists)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return p, os.MkdirAll(filepath.Dir(out), 0o755)
}

// saved is what lies in the file of an enrollment that isn't over: the key that
// may have a certificate already, and whom it trusts.
type saved struct {
	Request string     `json:"request"`
	Key     string     `json:"key"` // PKCS#8 in PEM
	Trust   wire.Trust `json:"trust"`
}

const maxSaved = 256 << 10

func (p *place) save(id otp.ID, pending client.Pending) error {
	key, err := ca.EncodeKey(pending.Key)
	if err != nil {
		return err
	}
	defer clear(key)
	data, err := json.Marshal(saved{Request: id.String(), Key: string(key), Trust: pending.Trust})
	if err != nil {
		return err
	}
	defer clear(data)
	return ca.WriteFile(p.joining, data, 0o600, true)
}

// pending of the same request, or nil.
func (p *place) pending(id otp.ID) (*client.Pending, error) {
	data, err := os.ReadFile(p.joining)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer clear(data)
	var s saved
	if len(data) > maxSaved || json.Unmarshal(data, &s) != nil {
		return nil, fmt.Errorf("%s is none of our files: remove it", p.joining)
	}
	if s.Request != id.String() {
		return nil, nil // of another request: replaced when there is something new
	}
	block, _ := pem.Decode([]byte(s.Key))
	if block == nil {
		return nil, fmt.Errorf("%s has no key: remove it", p.joining)
	}
	defer clear(block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.joining, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s has no key that signs: remove it", p.joining)
	}
	return &client.Pending{Key: signer, Trust: s.Trust}, nil
}

// forget an enrollment that can't go on. What can't be removed is replaced by
// the next one.
func (p *place) forget() { _ = os.Remove(p.joining) }

// paths of the files when they are there.
func (p *place) paths(files []profile.File) []string {
	var paths []string
	for _, f := range files {
		paths = append(paths, filepath.Join(p.out, filepath.FromSlash(f.Name)))
	}
	return paths
}

// finish writes all files and then gives their folder its name. It erases the
// data.
func (p *place) finish(files []profile.File) error {
	temporary, err := os.MkdirTemp(filepath.Dir(p.out), "."+filepath.Base(p.out)+".new.*") // mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	for _, f := range files {
		path := filepath.Join(temporary, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := ca.WriteFile(path, f.Data, f.Mode, false); err != nil {
			return err
		}
		clear(f.Data)
	}
	// Fails if somebody has made something of that name meanwhile, unless it is
	// an empty folder.
	if err := os.Rename(temporary, p.out); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(p.out))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := parent.Sync(); err != nil {
		return err
	}
	p.forget()
	return nil
}
