package fleet

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Trust is whose devices gateways let in. Without roots they go by their own
// files.
type Trust struct {
	// Roots, and CAs below them that devices don't show: certificates in PEM, one
	// or more in each.
	Roots         []string `json:"roots,omitempty" yaml:"roots,omitempty"`
	Intermediates []string `json:"intermediates,omitempty" yaml:"intermediates,omitempty"`
}

const certificateBlock = "CERTIFICATE"

func (t *Trust) add(a gcm.Authority) {
	text := string(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: a.DER}))
	if a.Root {
		t.Roots = append(t.Roots, text)
	} else {
		t.Intermediates = append(t.Intermediates, text)
	}
}

func (t *Trust) sort() {
	if t != nil {
		slices.Sort(t.Roots)
		slices.Sort(t.Intermediates)
	}
}

var errPEM = errors.New("want certificates in PEM and nothing else")

// Records of it, for gateways; a certificate that comes twice is one.
func (t *Trust) Records() (all []gcm.Record, err error) {
	if t == nil {
		return nil, nil
	}
	take := func(list []string, root bool) error {
		for n, text := range list {
			rest, some := bytes.TrimSpace([]byte(text)), false
			for len(rest) > 0 {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil || block.Type != certificateBlock {
					return fmt.Errorf("certificate %d: %w", n+1, errPEM)
				}
				rest, some = bytes.TrimSpace(rest), true
				r := gcm.Authority{Root: root, DER: block.Bytes}.Record()
				if !slices.ContainsFunc(all, func(a gcm.Record) bool { return bytes.Equal(a.Key, r.Key) }) {
					all = append(all, r)
				}
			}
			if !some {
				return fmt.Errorf("certificate %d: %w", n+1, errPEM)
			}
		}
		return nil
	}
	if err := take(t.Roots, true); err != nil {
		return nil, fmt.Errorf("trust.roots: %w", err)
	}
	if err := take(t.Intermediates, false); err != nil {
		return nil, fmt.Errorf("trust.intermediates: %w", err)
	}
	return all, nil
}

// authorities as records.
func authorities(t *database.Tx) ([]gcm.Record, error) {
	return database.Query(t.Context(), t, func(r database.Row) (gcm.Record, error) {
		var a gcm.Authority
		err := r.Scan(&a.Root, &a.DER)
		return a.Record(), err
	}, `SELECT root, der FROM gcm_trust`)
}

func (c *change) setTrust(records []gcm.Record) error {
	had, err := authorities(c.Tx)
	if err != nil || same(had, records) {
		return err
	}
	c.touch(trust)
	if _, err := c.Exec(`DELETE FROM gcm_trust`); err != nil {
		return err
	}
	for _, r := range records {
		typed, err := gcm.Decode(gcm.Trust, r)
		if err != nil {
			return err
		}
		a := typed.(gcm.Authority)
		if _, err := c.Exec(`INSERT INTO gcm_trust (digest, root, der) VALUES ($1, $2, $3)`, r.Key[1:], flag(a.Root), a.DER); err != nil {
			return err
		}
	}
	return nil
}

// firstTrust is committed once: whoever took all roots away meant it. Where there
// are gateways already it isn't: they may go by roots of their own that this
// manager doesn't know, and their devices would be out.
func (f *Fleet) firstTrust(ctx context.Context) error {
	records, err := f.Trust.Records()
	if err != nil || len(records) == 0 {
		return err
	}
	if _, err := gcm.Load(gcm.Trust, gcm.Version{}, sequence(records, nil)); err != nil {
		return err
	}
	return f.db.Write(ctx, func(t *database.Tx) error {
		c, err := f.begin(t, []string{registry, trust})
		if err != nil || c.before[trust].Number > 0 {
			return err
		}
		var gateways int
		if err := t.Row(`SELECT count(*) FROM gcm_gateway`).Scan(&gateways); err != nil {
			return err
		}
		if gateways > 0 {
			f.Log.Info("gateways go by the roots of devices in their own files; to push roots write them under trust.roots of what 'gatewayd gateway config export' says, and 'gatewayd gateway config import' it",
				slog.Int("gateways", gateways))
			return nil
		}
		if err := c.setTrust(records); err != nil {
			return err
		}
		return c.draw([]string{trust})
	})
}
