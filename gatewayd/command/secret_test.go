package command

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// A secret comes from the first line of a file or of standard input, or from the
// environment, white space and all; never from nowhere, and never half.
func TestSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	t.Setenv("SECRET", "of the environment")
	t.Setenv("EMPTY", "")
	for name, tt := range map[string]struct {
		content string
		args    []string
		want    string
		usage   bool
	}{
		"first line":        {content: "one \r\ntwo\n", args: []string{"--code-file", file}, want: "one "},
		"no end of line":    {content: " one", args: []string{"--code-file", file}, want: " one"},
		"standard input":    {content: "typed\n", args: []string{"--code-file", "-"}, want: "typed"},
		"environment":       {args: []string{"--code-env", "SECRET"}, want: "of the environment"},
		"empty line":        {content: "\ntwo\n", args: []string{"--code-file", file}},
		"too long":          {content: strings.Repeat("a", maxSecret), args: []string{"--code-file", file}},
		"no such file":      {args: []string{"--code-file", file + "2"}},
		"empty environment": {args: []string{"--code-env", "EMPTY"}, usage: true},
		"both":              {args: []string{"--code-env", "SECRET", "--code-file", file}, usage: true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			s := Secret{Name: "code", What: "enrollment code"}
			var got []byte
			c := &cobra.Command{SilenceErrors: true, SilenceUsage: true, RunE: func(c *cobra.Command, _ []string) (err error) {
				got, err = s.Read(c, Hidden)
				return err
			}}
			s.Add(c.Flags())
			c.SetIn(strings.NewReader(tt.content))
			c.SetArgs(tt.args)
			err := c.Execute()
			var usage *UsageError
			if string(got) != tt.want || (err == nil) != (tt.want != "") || errors.As(err, &usage) != tt.usage || !s.Given() {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
