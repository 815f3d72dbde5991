package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/config"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fenced = regexp.MustCompile("(?s)```[a-z]*\n(.*?)```")
	inline = regexp.MustCompile("`([^`\n]+)`")
	// begin of a command, where a shell would see one.
	called = regexp.MustCompile(`(?:^|[|&;(]\s*|[#$]\s+|sudo |bin/)gatewayd((?: .*)?)$`)
	// end of a command inside a line.
	ended = regexp.MustCompile(`\s(?:#|&&|\|\||\||>|;).*|[;)].*`)
)

// commandsOf a text of Markdown, without their first word.
func commandsOf(text string) (commands []string) {
	var lines []string
	for _, block := range fenced.FindAllStringSubmatch(text, -1) {
		lines = append(lines, strings.Split(strings.ReplaceAll(block[1], "\\\n", " "), "\n")...)
	}
	for _, code := range inline.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		lines = append(lines, code[1])
	}
	for _, line := range lines {
		for _, part := range strings.SplitAfter(line, " && ") {
			part = strings.TrimSuffix(part, " && ")
			if strings.HasPrefix(part, "install ") || strings.HasPrefix(part, "useradd ") {
				continue
			}
			if at := called.FindStringSubmatch(strings.TrimSpace(part)); at != nil {
				commands = append(commands, strings.TrimSpace(ended.ReplaceAllString(at[1], "")))
			}
		}
	}
	return commands
}

// TestReadmeCommands: each command of README.md exists, with the flags that it
// shows.
func TestReadmeCommands(t *testing.T) {
	commands := commandsOf(readme(t))
	if len(commands) < 60 {
		t.Fatalf("found %d commands only", len(commands))
	}
	for _, line := range commands {
		words := strings.Fields(strings.NewReplacer("[", "", "]", "", "'", "", `"`, "", ",", " ", "...", " ").Replace(strings.ReplaceAll(line, "manager,enrollment", "manager+enrollment")))
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "+", ",")
		}
		root := rootCommand()
		root.InitDefaultCompletionCmd()
		root.InitDefaultHelpFlag()
		c, rest, err := root.Find(words)
		if err != nil || c == root && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			t.Errorf("gatewayd %s: no such command (%v)", line, err)
			continue
		}
		if len(rest) > 0 && c.HasSubCommands() && !strings.HasPrefix(rest[0], "-") && !c.Runnable() {
			t.Errorf("gatewayd %s: no such command below %q", line, c.CommandPath())
		}
		c.InheritedFlags() // merges them
		for _, word := range rest {
			name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
			switch {
			case name == word || name == "" || name == "help":
			case strings.HasPrefix(word, "--") && c.Flag(name) == nil,
				!strings.HasPrefix(word, "--") && c.Flags().ShorthandLookup(name) == nil:
				t.Errorf("gatewayd %s: %s has no flag %s", line, c.CommandPath(), word)
			}
		}
	}
}

// TestReadmeKeys: each key of the configuration that README.md names exists.
func TestReadmeKeys(t *testing.T) {
	found := 0
	for _, code := range inline.FindAllStringSubmatch(fenced.ReplaceAllString(readme(t), ""), -1) {
		name := strings.TrimSuffix(strings.TrimSuffix(code[1], ".*"), ":")
		if section, _, _ := strings.Cut(name, "."); !keyLike.MatchString(name) || !keyIn(reflect.TypeFor[config.Config](), section) || isFile.MatchString(name) {
			continue
		}
		found++
		if !keyIn(reflect.TypeFor[config.Config](), name) {
			t.Errorf("%s: no such key", name)
		}
	}
	if found < 30 {
		t.Errorf("found %d keys only", found)
	}
}

var (
	keyLike = regexp.MustCompile(`^[a-z_]+(\.[a-z_0-9]+)+$`)
	// isFile is beside the configuration, such as gateway.pem.
	isFile = regexp.MustCompile(`^gateway\.(pem|key)$`)
)

// keyIn says whether the path leads to a key of the type.
func keyIn(t reflect.Type, path string) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return t.Kind() == reflect.Map
	}
	name, rest, more := strings.Cut(path, ".")
	for f := range t.Fields() {
		tag, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case strings.Contains(options, "inline") || f.Anonymous && tag == "":
			if keyIn(f.Type, path) {
				return true
			}
		case tag == name:
			return !more || keyIn(f.Type, rest)
		}
	}
	return false
}

// TestReadmeLinks: files and headings that README.md links to are there.
func TestReadmeLinks(t *testing.T) {
	text := readme(t)
	headings := map[string]bool{}
	for _, line := range strings.Split(fenced.ReplaceAllString(text, ""), "\n") {
		if title := strings.TrimLeft(line, "#"); title != line {
			title = strings.ToLower(strings.TrimSpace(title))
			headings[strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(title, ""), " ", "-")] = true
		}
	}
	links := regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1)
	if len(links) < 5 {
		t.Errorf("found %d links only", len(links))
	}
	for _, link := range links {
		if heading, ok := strings.CutPrefix(link[1], "#"); ok {
			if !headings[heading] {
				t.Errorf("no heading for %s", link[1])
			}
		} else if !strings.Contains(link[1], "://") {
			if _, err := os.Stat(filepath.Join("..", link[1])); err != nil {
				t.Errorf("%s: %v", link[1], err)
			}
		}
	}
}

// TestHelp: every command says what it does, and shows how.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.HasSubCommands() && c.Example == "" && c.Name() != "help" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		if c.Short == "" {
			t.Errorf("%s doesn't say what it does", c.CommandPath())
		}
	}
	walk(rootCommand())
}
