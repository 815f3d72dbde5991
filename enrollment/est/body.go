package est

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/roamgate/roamgate/enrollment/pkcs10"
)

// maxBody in octets: a request in PEM, with line ends.
const maxBody = pkcs10.MaxSize*3/2 + 1024

var errBody = errors.New("the body is no request in base64")

// readBody returns a request in DER. RFC 8951 section 3.1 wants base64 whatever
// Content-Transfer-Encoding says, lines of any length or none; DER and PEM
// can't be taken for it and are what people send with curl.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	return decode(body)
}

func decode(body []byte) ([]byte, error) {
	body = bytes.TrimLeft(body, " \t\r\n")
	if len(body) > 0 && body[0] == 0x30 { // SEQUENCE; '0' can't begin the base64 of one
		return body, nil // whose last octet may look like the end of a line
	}
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return nil, fmt.Errorf("%w: it is empty", errBody)
	case body[0] == '-':
		block, rest := pem.Decode(body)
		if block == nil || len(bytes.TrimSpace(rest)) != 0 {
			return nil, fmt.Errorf("%w: nor one block of PEM", errBody)
		}
		return block.Bytes, nil
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	compact := bytes.Map(func(r rune) rune {
		if r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, body) // line ends are skipped by the decoder
	n, err := base64.StdEncoding.Decode(der, compact)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	return der[:n], nil
}

// reply sends DER in base64, in one line (RFC 8951 section 3.1 goes by RFC 4648;
// strongSwan's client takes line ends for digits). Content-Transfer-Encoding
// means nothing in HTTP, but clients from before RFC 8951 look for it.
func reply(w http.ResponseWriter, mediaType string, der []byte) {
	body := base64.StdEncoding.AppendEncode(nil, der)
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Transfer-Encoding", "base64")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // who doesn't get it asks again
}
