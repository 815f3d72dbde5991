package profile

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"rsc.io/qr"
)

// maxQR keeps a code small enough for a phone's camera.
const maxQR = 300

// quiet zone around a code in modules (ISO/IEC 18004 section 9.1).
const quiet = 4

// Code is a QR code.
type Code struct {
	// Text that it holds.
	Text string
	code *qr.Code
}

// QR makes the code of the https URL where a profile file will lie, which a
// phone's camera opens: a .sswan file starts the strongSwan app, a
// .mobileconfig file the settings of iOS. To a URL that ends with a slash the
// name of the file is added.
//
// The file itself never goes into a code: no client reads a profile from one,
// and with its certificates it wouldn't fit (2,953 octets at most).
func QR(kind Kind, file, where string) (Code, error) {
	extension := path.Ext(file)
	switch kind {
	case SSwan, Apple:
	case Android:
		if extension != ".sswan" {
			return Code{}, fmt.Errorf("%w: a managed configuration comes from a device management system", ErrQR)
		}
	case StrongSwan, Windows:
		return Code{}, fmt.Errorf("%w: no client of kind %s reads one", ErrQR, kind)
	default:
		return Code{}, fmt.Errorf("%w: %q", ErrKind, kind)
	}
	if strings.HasSuffix(where, "/") {
		where += url.PathEscape(path.Base(file))
	}
	// Anyone on the way could exchange what plain http delivers.
	if !isWebURL(where, "https") || len(where) > maxQR {
		return Code{}, fmt.Errorf("%w: want the https URL of the file, of at most %d characters", ErrQR, maxQR)
	}
	if u, err := url.Parse(where); err != nil || path.Ext(u.Path) != extension {
		return Code{}, fmt.Errorf("%w: the device tells a profile by its name: the URL has to end with %s", ErrQR, extension)
	}
	code, err := qr.Encode(where, qr.M)
	if err != nil {
		return Code{}, fmt.Errorf("%w: %w", ErrQR, err)
	}
	return Code{where, code}, nil
}

// PNG is the code as a picture.
func (c Code) PNG() []byte { return c.code.PNG() }

// Blocks is the code for a terminal, black on white whatever its colours are:
// two modules a character.
func (c Code) Blocks() string {
	const white, reset = "\x1b[30;47m", "\x1b[0m"
	var b strings.Builder
	for y := -quiet; y < c.code.Size+quiet; y += 2 {
		b.WriteString(white)
		for x := -quiet; x < c.code.Size+quiet; x++ {
			switch upper, lower := c.code.Black(x, y), c.code.Black(x, y+1); {
			case upper && lower:
				b.WriteString("█")
			case upper:
				b.WriteString("▀")
			case lower:
				b.WriteString("▄")
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString(reset + "\n")
	}
	return b.String()
}

// Link makes the code of an https URL that a phone's camera opens in a browser.
func Link(where string) (Code, error) {
	if !isWebURL(where, "https") || len(where) > maxQR {
		return Code{}, fmt.Errorf("%w: want an https URL of at most %d characters", ErrQR, maxQR)
	}
	code, err := qr.Encode(where, qr.M)
	if err != nil {
		return Code{}, fmt.Errorf("%w: %w", ErrQR, err)
	}
	return Code{where, code}, nil
}
