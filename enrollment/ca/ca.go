package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Names of the files in a CA's directory.
const (
	RootFile    = "root.pem"
	IssuingFile = "issuing.pem"
	ChainFile   = "chain.pem"
	CRLFile     = "crl.pem"
	JournalFile = "issued.jsonl"
	// InstanceFile and RequestFile are there for an issuing CA whose
	// certificate comes from elsewhere.
	InstanceFile = "instance.oid"
	RequestFile  = "issuing.csr"
	// issuingKey is the base of the names under which the key may lie.
	issuingKey = "issuing"
)

// Lifetimes of the CA's own certificates.
const (
	rootLifetime    = 20 * 365 * 24 * time.Hour
	issuingLifetime = 10 * 365 * 24 * time.Hour
)

// Options of a new CA.
type Options struct {
	Dir string
	// Name is the beginning of both subjects; empty means "Roamgate".
	Name string
	Key  KeyAlgorithm
	// InstanceOID of the devices; the zero value means a new one.
	InstanceOID x509.OID
	// Passphrase for the keys at rest; empty leaves them in plain, mode 0600.
	Passphrase []byte
	// Replace a CA that is there; it is kept beside the new one, under its
	// name and ".replaced-" with the time.
	Replace bool
}

// CA issues and revokes. It is safe for concurrent use, and other processes
// may use the same directory.
type CA struct {
	dir    string
	issuer *Issuer

	mu      sync.Mutex // held together with the journal's lock
	journal *journal
}

// Create makes a new CA with an empty revocation list. Until it returns, the
// directory does not exist, or is the one that was there.
func Create(now time.Time, o Options) (*CA, error) {
	var signer crypto.Signer
	err := create(now, &o, func(dir string) (err error) {
		signer, err = fill(now, dir, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return OpenSigner(o.Dir, signer)
}

// create makes a directory with what fill puts into it, in one step.
func create(now time.Time, o *Options, fill func(dir string) error) error {
	if o.InstanceOID.Equal(x509.OID{}) {
		o.InstanceOID = NewInstanceOID()
	}
	if o.Name == "" {
		o.Name = "Roamgate"
	}
	o.Dir = filepath.Clean(o.Dir)
	parent := filepath.Dir(o.Dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if !o.Replace {
		if err := checkVacant(o.Dir); err != nil {
			return err
		}
	}
	temporary, err := os.MkdirTemp(parent, "."+filepath.Base(o.Dir)+".*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	if err := fill(temporary); err != nil {
		return err
	}
	return put(now, temporary, o.Dir, o.Replace)
}

func checkVacant(dir string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", dir, ErrExists)
}

// put moves the finished directory into its place.
func put(now time.Time, from, to string, replace bool) error {
	// Takes an empty directory away, and nothing else.
	err := os.Remove(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if !replace {
			return fmt.Errorf("%s: %w", to, ErrExists)
		}
		if err := os.Rename(to, to+".replaced-"+now.UTC().Format("20060102T150405.000Z")); err != nil {
			return err
		}
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// fill writes all files of a new CA and returns its issuing key.
func fill(now time.Time, dir string, o Options) (crypto.Signer, error) {
	rootKey, err := GenerateKey(o.Key)
	if err != nil {
		return nil, err
	}
	signer, err := GenerateKey(o.Key)
	if err != nil {
		return nil, err
	}
	name := uniqueName(o.Name)

	template := authorityTemplate(now, name+" Root CA", rootLifetime)
	template.MaxPathLen = 1
	root, err := signAuthority(template, template, rootKey, rootKey)
	if err != nil {
		return nil, err
	}
	template = authorityTemplate(now, name+" Issuing CA", issuingLifetime)
	template.MaxPathLenZero = true
	template.Policies = []x509.OID{o.InstanceOID}
	issuing, err := signAuthority(template, root, signer, rootKey)
	if err != nil {
		return nil, err
	}
	if err := writeKey(filepath.Join(dir, "root"), rootKey, root, o.Passphrase); err != nil {
		return nil, err
	}
	if err := writeKey(filepath.Join(dir, issuingKey), signer, issuing, o.Passphrase); err != nil {
		return nil, err
	}
	for file, certificates := range map[string][]*x509.Certificate{
		RootFile: {root}, IssuingFile: {issuing}, ChainFile: {issuing, root},
	} {
		if err := WriteFile(filepath.Join(dir, file), EncodeCertificates(certificates...), 0o644, false); err != nil {
			return nil, err
		}
	}
	if err := WriteFile(filepath.Join(dir, JournalFile), nil, 0o600, false); err != nil {
		return nil, err
	}
	a, err := OpenSigner(dir, signer)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	err = a.locked(func() error {
		err := a.journal.append(entry{
			Time: now.UTC(), Event: eventInit, SHA256: fingerprint(root),
			InstanceOID: o.InstanceOID.String(), NotAfter: root.NotAfter,
		})
		if err != nil {
			return err
		}
		return a.publish(now)
	})
	return signer, err
}

// uniqueName: two installations must not have CAs of the same name, because
// clients look for an issuer by name.
func uniqueName(name string) string {
	var tag [4]byte
	rand.Read(tag[:])
	return fmt.Sprintf("%s %x", name, tag)
}

func authorityTemplate(now time.Time, name string, lifetime time.Duration) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	c.Subject.CommonName = name
	return c
}

func signAuthority(template, parent *x509.Certificate, key, signer crypto.Signer) (*x509.Certificate, error) {
	keyID, err := subjectKeyID(key.Public())
	if err != nil {
		return nil, err
	}
	template.SubjectKeyId = keyID
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Open loads a CA with its key from the directory. passphrase is called only
// if the key has one; what it returns is erased.
func Open(dir string, passphrase func() ([]byte, error)) (*CA, error) {
	// Before anyone is asked for a passphrase.
	if _, err := readCertificate(dir, IssuingFile); err != nil {
		return nil, err
	}
	signer, err := readKey(filepath.Join(dir, issuingKey), passphrase)
	if err != nil {
		return nil, err
	}
	return OpenSigner(dir, signer)
}

// OpenSigner loads a CA whose issuing key lies elsewhere. A nil signer makes
// a CA that can be read only.
func OpenSigner(dir string, signer crypto.Signer) (*CA, error) {
	root, err := readCertificate(dir, RootFile)
	if err != nil {
		return nil, err
	}
	issuing, err := readCertificate(dir, IssuingFile)
	if err != nil {
		return nil, err
	}
	chain, err := readCertificates(dir, ChainFile)
	if err != nil {
		return nil, err
	}
	if !chain[0].Equal(issuing) || !chain[len(chain)-1].Equal(root) {
		return nil, fmt.Errorf("%w: %s does not lead from %s to %s", ErrChain, ChainFile, IssuingFile, RootFile)
	}
	instance, err := readInstance(dir, issuing)
	if err != nil {
		return nil, err
	}
	issuer, err := NewIssuer(signer, chain, instance)
	if err != nil {
		return nil, err
	}
	j, err := openJournal(filepath.Join(dir, JournalFile))
	if err != nil {
		return nil, err
	}
	return &CA{dir: dir, issuer: issuer, journal: j}, nil
}

// readInstance: the instance OID is the policy of an issuing CA that we made.
// Whoever signed another one may have left it out or put theirs there; so it
// is in a file beside it.
func readInstance(dir string, issuing *x509.Certificate) (x509.OID, error) {
	text, err := os.ReadFile(filepath.Join(dir, InstanceFile))
	switch {
	case err == nil:
		oid, err := x509.ParseOID(strings.TrimSpace(string(text)))
		if err != nil {
			return oid, fmt.Errorf("%s: %q is not an OID", filepath.Join(dir, InstanceFile), text)
		}
		return oid, nil
	case !errors.Is(err, fs.ErrNotExist):
		return x509.OID{}, err
	case len(issuing.Policies) != 1:
		return x509.OID{}, fmt.Errorf("%s: %d certificate policies, want the instance OID", IssuingFile, len(issuing.Policies))
	}
	return issuing.Policies[0], nil
}

func readCertificate(dir, file string) (*x509.Certificate, error) {
	all, err := readCertificates(dir, file)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// readCertificates of a file, at least one.
func readCertificates(dir, file string) ([]*x509.Certificate, error) {
	path := filepath.Join(dir, file)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoCA)
	}
	if err != nil {
		return nil, err
	}
	all, err := DecodeCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// Close lets go of the journal.
func (a *CA) Close() error { return a.journal.file.Close() }

// Dir is the directory of the CA.
func (a *CA) Dir() string { return a.dir }

// Root certificate.
func (a *CA) Root() *x509.Certificate { return a.issuer.Root() }

// Issuing CA's certificate.
func (a *CA) Issuing() *x509.Certificate { return a.issuer.Certificate() }

// InstanceOID that every device certificate carries as its policy.
func (a *CA) InstanceOID() x509.OID { return a.issuer.InstanceOID() }

// locked runs f while no other user of the directory, here or in another
// process, is at it.
func (a *CA) locked(f func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.journal.lock(); err != nil {
		return err
	}
	defer a.journal.unlock()
	return f()
}

// Issuer signs without the journal: for whoever keeps the record elsewhere,
// after HandOver.
func (a *CA) Issuer() *Issuer { return a.issuer }

// Issue makes a certificate. It is in the journal, and the journal on disk,
// before it is returned; so it can be revoked even if the reply was lost. The
// revocation list is renewed on the way when it is half-way to its end.
func (a *CA) Issue(now time.Time, r Request) (*x509.Certificate, error) {
	c, err := a.issuer.Sign(now, r)
	if err != nil {
		return nil, err
	}
	err = a.locked(func() error {
		if err := a.journal.ours(); err != nil {
			return err
		}
		err := a.journal.append(entry{
			Time: now.UTC(), Event: eventIssue, Serial: SerialString(c.SerialNumber), Profile: r.Profile,
			Name: c.Subject.CommonName, NotBefore: c.NotBefore, NotAfter: c.NotAfter, SHA256: fingerprint(c),
		})
		if err != nil {
			return err
		}
		return a.publishIfDue(now)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Issued are all certificates in the order in which they were issued.
func (a *CA) Issued() ([]Issued, error) {
	var all []Issued
	err := a.locked(func() error {
		for _, i := range a.journal.issued {
			all = append(all, *i)
		}
		return nil
	})
	return all, err
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
