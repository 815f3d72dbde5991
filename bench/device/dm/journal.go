package dm

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Entry of a journal: a command that a device is about to execute.
type Entry struct {
	Device  string      `json:"device"`
	Session string      `json:"session"`
	Message string      `json:"message"`
	Command string      `json:"command"`
	Verb    syncml.Verb `json:"verb"`
	URI     string      `json:"uri"`
	Data    string      `json:"data,omitempty"`
	// Lied: the server was told that it was done, and it wasn't.
	Lied bool `json:"lied,omitempty"`
}

// Journal is a file with a JSON object a line. Several devices may share one.
type Journal struct {
	mu   sync.Mutex
	file *os.File
}

// OpenJournal appends to the file at path, which it makes if need be.
func OpenJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &Journal{file: f}, nil
}

// Write e; it is on disk when Write returns.
func (j *Journal) Write(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Close the file.
func (j *Journal) Close() error { return j.file.Close() }

// ReadJournal returns all entries of a file; of one that isn't there, none.
func ReadJournal(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	var entries []Entry
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("journal, entry %d: %w", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}
