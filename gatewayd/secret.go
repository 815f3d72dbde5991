package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/roamgate/roamgate/control/gate"
)

// keptSecret reads the secret in a file of 32 octets, which it makes if there is
// none. A file of another length is an error: nobody else should have written it.
func keptSecret(path string) (gate.Secret, error) {
	var secret gate.Secret
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newSecret(path)
	}
	if err != nil {
		return secret, fmt.Errorf("secret of crash detection: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(len(secret))+1))
	if err == nil && len(b) != len(secret) {
		err = fmt.Errorf("is not %d octets long", len(secret))
	}
	if err != nil {
		return secret, fmt.Errorf("secret of crash detection in %s: %w", path, err)
	}
	copy(secret[:], b)
	clear(b)
	return secret, nil
}

// newSecret draws one, which is on disk under its name only when it is whole.
func newSecret(path string) (secret gate.Secret, err error) {
	if _, err := rand.Read(secret[:]); err != nil {
		return secret, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // mode 0600
	if err != nil {
		return secret, fmt.Errorf("secret of crash detection: %w", err)
	}
	_, err = f.Write(secret[:])
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return secret, errors.Join(fmt.Errorf("secret of crash detection: %w", err), os.Remove(f.Name()))
	}
	return secret, nil
}
