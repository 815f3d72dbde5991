package windows

import (
	"crypto/sha1" // the certificate store's name for a certificate
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/enroll"
)

// Account of a device at the device management server.
type Account struct {
	// Provider is the server's identifier (PROVIDER-ID); Name is shown to the
	// user.
	Provider string
	Name     string
	// URL of the server.
	URL string
	// Device's own credential, and that of the server toward the device. The
	// second has no name.
	Device, Server Credential
}

// Credential of OMA DM's MD5 authentication. Windows wants both, also where the
// server goes by the client certificate.
type Credential struct {
	Name   string
	Secret string
	Nonce  []byte
}

// Stores of certificates: that of the user who enrolls, or the device's (MS-MDE2
// section 2.2.9.1).
const (
	userStore   = "User"
	deviceStore = "System"
)

// Poll schedule until the server sets another: every 3 minutes for a quarter of
// an hour, every quarter of an hour for two and a half hours, then every 8
// hours.
var poll = []parm{
	integer("NumberOfFirstRetries", 5),
	integer("IntervalForFirstSetOfRetries", 3),
	integer("NumberOfSecondRetries", 10),
	integer("IntervalForSecondSetOfRetries", 15),
	integer("NumberOfRemainingScheduledRetries", 0), // without end
	integer("IntervalForRemainingScheduledRetries", 480),
	{Name: "PollOnLogin", Value: "true", Datatype: "boolean"},
}

// Times of connections that fail: how often at once, and how long the pauses
// grow, in milliseconds.
const (
	connectRetries = 6
	firstPause     = 30_000
	longestPause   = 120_000
)

// retryDays between tries to renew.
const retryDays = 4

type document struct {
	XMLName  xml.Name         `xml:"wap-provisioningdoc"`
	Version  string           `xml:"version,attr"`
	Children []characteristic `xml:"characteristic"`
}

type characteristic struct {
	Type     string           `xml:"type,attr"`
	Parms    []parm           `xml:"parm"`
	Children []characteristic `xml:"characteristic"`
}

type parm struct {
	Name     string `xml:"name,attr"`
	Value    string `xml:"value,attr,omitempty"`
	Datatype string `xml:"datatype,attr,omitempty"`
}

func integer(name string, value int) parm {
	return parm{Name: name, Value: strconv.Itoa(value), Datatype: "integer"}
}

func node(kind string, children ...characteristic) characteristic {
	return characteristic{Type: kind, Children: children}
}

func leaf(kind string, parms ...parm) characteristic {
	return characteristic{Type: kind, Parms: parms}
}

// provision makes the document, MS-MDE2 section 2.2.9.1. A renewal brings the
// new certificate only.
func provision(issued enroll.Issued, account Account, store string, renewal bool) ([]byte, error) {
	if account.Provider == "" || account.URL == "" {
		return nil, errors.New("no management server to enroll Windows devices for")
	}
	own := node("My", node(store, certificate(issued.Certificate), node("PrivateKeyContainer")))
	d := document{Version: "1.1"}
	if renewal {
		d.Children = []characteristic{
			node("CertificateStore", own),
			leaf("APPLICATION", parm{Name: "PROVIDER-ID", Value: account.Provider}),
		}
	} else {
		own.Children = append(own.Children, node("WSTEP", renew(issued)))
		d.Children = append(authorities(issued.Chain),
			node("CertificateStore", own), application(issued, account), dmClient(issued, account))
	}
	out, err := xml.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("provisioning document: %w", err)
	}
	return out, nil
}

// certificate goes by its SHA-1 digest, and in one line of base64.
func certificate(c *x509.Certificate) characteristic {
	return leaf(fmt.Sprintf("%X", sha1.Sum(c.Raw)),
		parm{Name: "EncodedCertificate", Value: base64.StdEncoding.EncodeToString(c.Raw)})
}

// authorities: the root into Root/System, others into CA/System.
func authorities(chain []*x509.Certificate) []characteristic {
	var roots, others []characteristic
	for i, c := range chain {
		if i == len(chain)-1 {
			roots = append(roots, certificate(c))
		} else {
			others = append(others, certificate(c))
		}
	}
	all := []characteristic{node("CertificateStore", node("Root", node("System", roots...)))}
	if len(others) > 0 {
		all = append(all, node("CertificateStore", node("CA", node("System", others...))))
	}
	return all
}

// renew tells when, in days before the end, and how often; 1 to 1000 days.
func renew(issued enroll.Issued) characteristic {
	const day = 24 * time.Hour
	days := int((issued.Certificate.NotAfter.Sub(issued.RenewFrom) + day - 1) / day)
	days = min(max(days, 1), 1000)
	return leaf("Renew",
		parm{Name: "ROBOSupport", Value: "true", Datatype: "boolean"},
		integer("RenewPeriod", days),
		integer("RetryInterval", min(retryDays, days)))
}

// application is the account of OMA DM, the APPLICATION of w7. Both levels of
// credentials have to be there.
func application(issued enroll.Issued, account Account) characteristic {
	search := "Subject=" + escapeURI("CN="+issued.Certificate.Subject.CommonName) + "&Stores=" + escapeURI(`My\User`)
	nonce := base64.StdEncoding.EncodeToString
	return characteristic{
		Type: "APPLICATION",
		Parms: []parm{
			{Name: "APPID", Value: "w7"},
			{Name: "PROVIDER-ID", Value: account.Provider},
			{Name: "NAME", Value: account.Name},
			{Name: "ADDR", Value: account.URL},
			{Name: "CONNRETRYFREQ", Value: strconv.Itoa(connectRetries)},
			{Name: "INITIALBACKOFFTIME", Value: strconv.Itoa(firstPause)},
			{Name: "MAXBACKOFFTIME", Value: strconv.Itoa(longestPause)},
			{Name: "BACKCOMPATRETRYDISABLED"},
			{Name: "DEFAULTENCODING", Value: "application/vnd.syncml.dm+xml"},
			{Name: "SSLCLIENTCERTSEARCHCRITERIA", Value: search},
		},
		Children: []characteristic{
			leaf("APPAUTH",
				parm{Name: "AAUTHLEVEL", Value: "CLIENT"},
				parm{Name: "AAUTHTYPE", Value: "DIGEST"},
				parm{Name: "AAUTHSECRET", Value: account.Server.Secret},
				parm{Name: "AAUTHDATA", Value: nonce(account.Server.Nonce)}),
			leaf("APPAUTH",
				parm{Name: "AAUTHLEVEL", Value: "APPSRV"},
				parm{Name: "AAUTHTYPE", Value: "DIGEST"},
				parm{Name: "AAUTHNAME", Value: account.Device.Name},
				parm{Name: "AAUTHSECRET", Value: account.Device.Secret},
				parm{Name: "AAUTHDATA", Value: nonce(account.Device.Nonce)}),
		},
	}
}

// dmClient sets the poll schedule, and the name by which the device is known,
// without which Windows renews nothing.
func dmClient(issued enroll.Issued, account Account) characteristic {
	provider := characteristic{
		Type: account.Provider,
		Parms: []parm{
			{Name: "EntDeviceName", Value: issued.Device, Datatype: "string"},
			{Name: "EntDMID", Value: issued.Device, Datatype: "string"},
		},
		Children: []characteristic{leaf("Poll", poll...)},
	}
	if strings.Contains(issued.User, "@") {
		provider.Parms = append(provider.Parms, parm{Name: "UPN", Value: issued.User, Datatype: "string"})
	}
	return node("DMClient", node("Provider", provider))
}

// escapeURI as in RFC 2396: all but the unreserved ones.
func escapeURI(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
