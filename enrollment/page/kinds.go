package page

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/profile"
)

// kind of what a user can choose.
type kind struct {
	// Name in forms and sessions.
	Name string
	// Label and Hint that users see.
	Label, Hint string
	// profile it is made by; empty for plain files.
	profile profile.Kind
	// Agents are words in User-Agent that make it the first choice.
	agents []string
	// Own: the device has made its key.
	Own bool
}

var kinds = []kind{
	{Name: "apple", Label: "iPhone, iPad or Mac", Hint: "A profile that Settings imports.", profile: profile.Apple, agents: []string{"iPhone", "iPad", "Macintosh"}},
	{Name: "android", Label: "Android, with the strongSwan app", Hint: "A profile that the app imports. Install the app first.", profile: profile.SSwan, agents: []string{"Android"}},
	{Name: "windows", Label: "Windows 10 or 11", Hint: "A folder with a script that an administrator of the computer runs.", profile: profile.Windows, agents: []string{"Windows"}},
	{Name: "strongswan", Label: "Linux, with strongSwan", Hint: "A folder for /etc/swanctl.", profile: profile.StrongSwan, agents: []string{"Linux", "X11"}},
	{Name: "p12", Label: "Another device: key and certificate", Hint: "A PKCS#12 file, as most systems import it."},
	{Name: "csr", Label: "Another device that made its own key", Hint: "Paste its certificate request (PKCS#10, PEM) below. The key stays on the device.", Own: true},
}

func kindOf(name string) (kind, bool) {
	for _, k := range kinds {
		if k.Name == name {
			return k, true
		}
	}
	return kind{}, false
}

// guess is the kind that a browser's name suggests, or none.
func guess(agent string) string {
	for _, k := range kinds {
		for _, word := range k.agents {
			if strings.Contains(agent, word) {
				return k.Name
			}
		}
	}
	return ""
}

// download is a file with what is said about it.
type download struct {
	Name string
	Type string
	Data []byte
}

// result of an enrollment for its user.
type result struct {
	Files []download
	Notes []string
	// Password of a container in the files, empty if there is none.
	Password string
}

// types by the end of a name.
var types = map[string]string{
	".mobileconfig": "application/x-apple-aspen-config",
	".sswan":        "application/vnd.strongswan.profile",
	".p12":          "application/x-pkcs12",
	".pem":          "application/x-pem-file",
	".zip":          "application/zip",
}

// profileOf a device, before it has a certificate.
func (h *handler) profileOf(device string, key *ecdsa.PrivateKey) profile.Profile {
	p := h.Profile
	p.Device, p.Instance, p.Key = device, h.Instance, key
	return p
}

// possible says whether build would make the files of a kind.
func (h *handler) possible(v *session, k kind) error {
	if k.profile == "" {
		return nil
	}
	key, err := v.private()
	if err != nil {
		return err
	}
	return profile.Check(k.profile, h.profileOf(v.Device, key))
}

// build the files of a session's kind.
func (h *handler) build(v *session, k kind, issued enroll.Issued) (result, error) {
	chain := issued.Chain
	authorities := download{Name: issued.Device + ".ca.pem", Data: ca.EncodeCertificates(chain...)}
	if k.Own {
		return finish(result{Files: []download{{Name: issued.Device + ".pem", Data: encode(issued)}, authorities}}), nil
	}
	key, err := v.private()
	if err != nil {
		return result{}, err
	}
	if k.profile == "" {
		p12, err := pkcs12.Modern2023.WithRand(rand.Reader).Encode(key, issued.Certificate, chain, v.Container)
		if err != nil {
			return result{}, err
		}
		return finish(result{Files: []download{{Name: issued.Device + ".p12", Data: p12}, authorities}, Password: v.Container}), nil
	}
	p := h.profileOf(issued.Device, key)
	p.Certificate = issued.Certificate
	p.Roots, p.Intermediates = chain[len(chain)-1:], chain[:len(chain)-1]
	b, err := profile.Build(k.profile, p, profile.Options{Password: v.Container, Rand: rand.Reader, Signer: h.Signer})
	if err != nil {
		return result{}, err
	}
	r := result{Notes: b.Notes}
	if profile.HasPassword(k.profile, p) {
		r.Password = v.Container
	}
	if len(b.Files) == 1 {
		r.Files = []download{{Name: path.Base(b.Files[0].Name), Data: b.Files[0].Data}}
		return finish(r), nil
	}
	packed, err := pack(issued.Device, b.Files)
	r.Files = []download{{Name: issued.Device + ".zip", Data: packed}}
	return finish(r), err
}

func finish(r result) result {
	for i, f := range r.Files {
		r.Files[i].Type = types[path.Ext(f.Name)]
	}
	return r
}

// encode the certificate and its intermediates, PEM.
func encode(issued enroll.Issued) []byte {
	list := append([]*x509.Certificate{issued.Certificate}, issued.Chain[:len(issued.Chain)-1]...)
	return ca.EncodeCertificates(list...)
}

// pack puts files into a folder of an archive.
func pack(folder string, files []profile.File) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		header := &zip.FileHeader{Name: folder + "/" + f.Name, Method: zip.Deflate}
		header.SetMode(f.Mode & fs.ModePerm)
		w, err := z.CreateHeader(header)
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	err := z.Close()
	return b.Bytes(), err
}
