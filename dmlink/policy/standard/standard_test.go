package standard

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
)

func prefixes(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func lines(s policy.Set) []string {
	var out []string
	for _, v := range s.Settings {
		line := fmt.Sprintf("%s %s=%s", v.URI, v.Format, v.Data)
		if v.After == policy.Leave {
			line += " then " + v.Leave
		}
		if v.There {
			line += " there"
		}
		if v.RemoveAt != "" {
			line += " goes with " + v.RemoveAt
		}
		out = append(out, line)
	}
	return out
}

func TestNodes(t *testing.T) {
	for _, c := range []struct {
		name     string
		platform Platform
		wish     Builder
		atomic   bool
		want     []string
	}{
		{"proxy", Windows, Proxy{Address: "proxy.corp:8080", Exceptions: []string{"10.", "*.corp"}}, false, []string{
			"./Vendor/MSFT/NetworkProxy/AutoDetect int=0 then 1 there",
			"./Vendor/MSFT/NetworkProxy/ProxyServer/ProxyAddress =proxy.corp:8080 then  there",
			"./Vendor/MSFT/NetworkProxy/ProxyServer/Exceptions =10.;*.corp then  there",
			"./Vendor/MSFT/NetworkProxy/ProxyServer/UseProxyForLocalAddresses int=0 then 0 there",
		}},
		{"script", Windows, Proxy{Script: "https://corp/proxy.pac"}, false, []string{
			"./Vendor/MSFT/NetworkProxy/AutoDetect int=0 then 1 there",
			"./Vendor/MSFT/NetworkProxy/SetupScriptUrl =https://corp/proxy.pac then  there",
		}},
		{"mobile proxy", WindowsMobile, Proxy{Address: "10.1.2.3:8080", Network: "{436EF144-B4FB-4863-A041-8F905A62C572}"}, true, []string{
			"./Vendor/MSFT/Proxy/PROXY0 node=", "./Vendor/MSFT/Proxy/PROXY0/ProxyId =PROXY0", "./Vendor/MSFT/Proxy/PROXY0/Name =Company proxy",
			"./Vendor/MSFT/Proxy/PROXY0/AddrType =IPV4", "./Vendor/MSFT/Proxy/PROXY0/Addr =10.1.2.3", "./Vendor/MSFT/Proxy/PROXY0/ProxyType =ISA",
			"./Vendor/MSFT/Proxy/PROXY0/Ports/PORT0 node=", "./Vendor/MSFT/Proxy/PROXY0/Ports/PORT0/PortNbr =8080",
			"./Vendor/MSFT/Proxy/PROXY0/Ports/PORT0/Services/SERVICE0 node=", "./Vendor/MSFT/Proxy/PROXY0/Ports/PORT0/Services/SERVICE0/ServiceName =HTTP",
			"./Vendor/MSFT/Proxy/PROXY0/ConRefs/CONREF0 node=", "./Vendor/MSFT/Proxy/PROXY0/ConRefs/CONREF0/ConRef ={436EF144-B4FB-4863-A041-8F905A62C572}",
		}},
		{"networks", Windows, CompanyNetworks{Prefixes: prefixes("10.0.0.0/8", "192.168.7.129/25", "2001:db8::/33"), Domains: []string{"corp.example", ".lab"}, Authoritative: true}, false, []string{
			"./Device/Vendor/MSFT/Policy/Config/NetworkIsolation/EnterpriseIPRange =10.0.0.0-10.255.255.255,192.168.7.128-192.168.7.255,2001:db8::-2001:db8:7fff:ffff:ffff:ffff:ffff:ffff",
			"./Device/Vendor/MSFT/Policy/Config/NetworkIsolation/EnterpriseIPRangesAreAuthoritative int=1",
			"./Device/Vendor/MSFT/Policy/Config/NetworkIsolation/EnterpriseNetworkDomainNames =corp.example,.lab",
		}},
		{"wifi", Windows, WiFi{SSID: "Our net/1", Profile: "<?xml version=\"1.0\"?><WLANProfile><name>x</name></WLANProfile>"}, false, []string{
			"./Device/Vendor/MSFT/WiFi/Profile/Our%20net%2F1/WlanXml =<?xml version=\"1.0\"?><WLANProfile><name>x</name></WLANProfile> goes with ./Device/Vendor/MSFT/WiFi/Profile/Our%20net%2F1",
		}},
		{"cellular", WindowsMobile, Cellular{Name: "NAP0", Label: "Corp", APN: "corp.example", User: "u", Password: "p"}, true, []string{
			"./Vendor/MSFT/NAP/NAP0 node=", "./Vendor/MSFT/NAP/NAP0/NapId =NAP0", "./Vendor/MSFT/NAP/NAP0/AddrType =APN", "./Vendor/MSFT/NAP/NAP0/Addr =corp.example",
			"./Vendor/MSFT/NAP/NAP0/Bearer/BearerType =GPRS", "./Vendor/MSFT/NAP/NAP0/Name =Corp",
			"./Vendor/MSFT/NAP/NAP0/AuthInfo/AuthType =PAP", "./Vendor/MSFT/NAP/NAP0/AuthInfo/AuthName =u", "./Vendor/MSFT/NAP/NAP0/AuthInfo/AuthSecret =p",
		}},
		{"password", Windows, Password{Kind: Alphanumeric, MinLength: 8, MaxFailures: 10, Idle: 5, History: 3, MaxAge: 90, NoSimple: true}, true, []string{
			"./Device/Vendor/MSFT/Policy/Config/DeviceLock/DevicePasswordEnabled int=0 there", "./Device/Vendor/MSFT/Policy/Config/DeviceLock/AlphanumericDevicePasswordRequired int=0 there",
			"./Device/Vendor/MSFT/Policy/Config/DeviceLock/MinDevicePasswordLength int=8 there", "./Device/Vendor/MSFT/Policy/Config/DeviceLock/MaxDevicePasswordFailedAttempts int=10 there",
			"./Device/Vendor/MSFT/Policy/Config/DeviceLock/MaxInactivityTimeDeviceLock int=5 there", "./Device/Vendor/MSFT/Policy/Config/DeviceLock/DevicePasswordHistory int=3 there",
			"./Device/Vendor/MSFT/Policy/Config/DeviceLock/DevicePasswordExpiration int=90 there", "./Device/Vendor/MSFT/Policy/Config/DeviceLock/AllowSimpleDevicePassword int=0 there",
		}},
		{"mobile password", WindowsMobile, Password{Kind: Numeric, MinLength: 4, MaxFailures: 8, Idle: 15}, false, []string{
			"./Vendor/MSFT/SecurityPolicy/4131 int=0 then 1",
			"./Vendor/MSFT/Registry/HKLM/Comm/Security/Policy/LASSD/LAP/lap_pw/PasswordComplexity int=1",
			"./Vendor/MSFT/Registry/HKLM/Comm/Security/Policy/LASSD/LAP/lap_pw/MinimumPasswordLength int=4",
			"./Vendor/MSFT/Registry/HKLM/Comm/Security/Policy/LASSD/DeviceWipeThreshold int=8",
			"./Vendor/MSFT/Registry/HKLM/Comm/Security/Policy/LASSD/AE/{50C13377-C66D-400C-889E-C316FC4AB374}/AEFrequencyType int=1",
			"./Vendor/MSFT/Registry/HKLM/Comm/Security/Policy/LASSD/AE/{50C13377-C66D-400C-889E-C316FC4AB374}/AEFrequencyValue int=15",
		}},
		{"camera", Windows, CameraOff{}, false, []string{"./Device/Vendor/MSFT/Policy/Config/Camera/AllowCamera int=0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Set(c.name, c.platform, c.wish)
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(s); !slices.Equal(got, c.want) || s.Atomic != c.atomic {
				t.Errorf("atomic %v\n%s\nwant\n%s", s.Atomic, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func certificate(t *testing.T, ca bool) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificates(t *testing.T) {
	root, leaf := certificate(t, true), certificate(t, false)
	for platform, start := range map[Platform]string{Windows: "./Device/Vendor/MSFT/RootCATrustedCertificates/Root/", WindowsMobile: "./Vendor/MSFT/CertificateStore/ROOT/"} {
		s, err := Set("roots", platform, Certificates{Store: Root, Certificates: []*x509.Certificate{root}, Absent: []*x509.Certificate{leaf}})
		if err != nil {
			t.Fatal(err)
		}
		v := s.Settings[0]
		if len(s.Settings) != 2 || v.URI != v.RemoveAt+"/EncodedCertificate" || !strings.HasPrefix(v.RemoveAt, start) || len(v.RemoveAt) != len(start)+40 || v.Format != "b64" ||
			!s.Settings[1].Absent || s.Settings[1].URI == v.RemoveAt {
			t.Errorf("%+v", s.Settings)
		}
	}
	if _, err := Set("roots", Windows, Certificates{Store: Root, Certificates: []*x509.Certificate{leaf}}); !errors.Is(err, ErrWish) {
		t.Errorf("a root that is no CA: %v", err)
	}
	if _, err := Set("all of them", Windows, Certificates{Store: Privileged, Certificates: []*x509.Certificate{leaf}}); !errors.Is(err, ErrNoNode) {
		t.Errorf("a store that Windows hasn't: %v", err)
	}
	s, err := Set("all of them", WindowsMobile, Certificates{Store: Privileged, Certificates: []*x509.Certificate{leaf}})
	if err != nil || !strings.HasPrefix(s.Settings[0].URI, "./Vendor/MSFT/CertificateStore/Privileged Execution Trust Authorities/") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestRefused(t *testing.T) {
	for i, c := range []struct {
		platform Platform
		wish     Builder
		want     error
	}{
		{Windows, Proxy{}, ErrWish},
		{Windows, Proxy{Address: "a:1", Script: "http://a/"}, ErrWish},
		{Windows, Proxy{Address: "host"}, ErrWish},
		{Windows, Proxy{Address: "host:0"}, ErrWish},
		{Windows, Proxy{Script: "file:///etc/passwd"}, ErrWish},
		{Windows, Proxy{Address: "a:1", Exceptions: []string{"a;b"}}, ErrWish},
		{WindowsMobile, Proxy{Address: "a:1"}, ErrWish},
		{WindowsMobile, Proxy{Address: "a:1", Network: "n", Exceptions: []string{"a"}}, ErrNoNode},
		{Windows, CompanyNetworks{}, ErrWish},
		{Windows, CompanyNetworks{Domains: []string{"a,b"}}, ErrWish},
		{Windows, CompanyNetworks{Prefixes: make([]netip.Prefix, 1)}, ErrWish},
		{WindowsMobile, CompanyNetworks{Domains: []string{"a"}}, ErrNoNode},
		{Windows, WiFi{SSID: strings.Repeat("x", 33), Profile: "<WLANProfile/>"}, ErrWish},
		{Windows, WiFi{SSID: "x", Profile: "<WLANProfile>"}, ErrWish},
		{Windows, WiFi{SSID: "x", Profile: "<other/>"}, ErrWish},
		{Windows, WiFi{SSID: "x"}, ErrWish},
		{WindowsMobile, WiFi{SSID: "x", Profile: "<WLANProfile/>"}, ErrNoNode},
		{Windows, Cellular{Name: "a@WAP", APN: "a"}, ErrWish},
		{Windows, Cellular{Name: "a"}, ErrWish},
		{Windows, Cellular{Name: "a", APN: "a", Password: "p"}, ErrWish},
		{Windows, Password{MinLength: 3}, ErrWish},
		{Windows, Password{Kind: "strong"}, ErrWish},
		{WindowsMobile, Password{History: 3}, ErrNoNode},
		{WindowsMobile, CameraOff{}, ErrNoNode},
		{"symbian", Password{}, ErrNoNode},
		{Windows, Certificates{Store: Root}, ErrWish},
	} {
		if _, err := Set("s", c.platform, c.wish); !errors.Is(err, c.want) {
			t.Errorf("%d: %+v on %s: %v, want %v", i, c.wish, c.platform, err, c.want)
		}
	}
	if _, err := Set("two proxies", Windows, Proxy{Address: "a:1"}, Proxy{Address: "b:1"}); !errors.Is(err, policy.ErrDocument) {
		t.Errorf("two proxies: %v", err)
	}
}
