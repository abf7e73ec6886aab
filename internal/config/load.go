package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Load reads the configuration from the file at path ("" for none), the
// environment and overrides, which are values of flags by key path. A flag
// wins over the environment, that over the file, that over the default; a
// value that does not win must be right all the same. The error is an
// [*Error] with every problem there is.
//
// env is asked by name, as [os.LookupEnv]; a variable that is empty counts as
// not set.
func Load(path string, env func(string) (string, bool), overrides map[string]string) (Config, error) {
	l := loader{env: env, overrides: overrides, path: path}
	if path != "" {
		content, err := readFile(path)
		if err != nil {
			return Config{}, &Error{Problems: []Problem{{Text: err.Error()}}, file: err}
		}
		l.entries, l.problems = parseFile(path, content)
	}
	return l.load()
}

// loader is the state of one Load.
type loader struct {
	path      string
	env       func(string) (string, bool)
	overrides map[string]string
	entries   map[string]entry
	problems  []Problem
	file      error // of the last that could not be read
}

// candidate is one value somebody gave a key.
type candidate struct {
	origin origin
	form   form
	text   string
}

func (l *loader) load() (Config, error) {
	c := Config{origins: map[string]origin{}}
	for _, k := range keys() {
		v := k.bind(&c)
		if err := v.set(k.fallback); k.fallback != "" && err != nil {
			// A slip in the table; a test sets every default.
			l.problems = append(l.problems, Problem{Path: k.path, Text: "default: " + err.Error()})
		}
		for _, given := range l.given(k) {
			if err := v.give(given.form, given.text); err != nil {
				l.problems = append(l.problems, given.origin.problem(k.path, trim(err).Error()))
			}
			c.origins[k.path] = given.origin
		}
	}
	known := Keys()
	for _, path := range slices.Sorted(maps.Keys(l.overrides)) {
		if !slices.Contains(known, path) {
			l.problems = append(l.problems, Problem{Source: "flag", Path: path, Text: "unknown key"})
		}
	}
	if c.Uplink.Prefix == "" {
		c.Uplink.Prefix = "avoqado/v1/venues/" + c.Box.Venue
	}
	if c.Socket == "" {
		c.Socket = filepath.Join(l.runtimeDir(c.StateDir), "avoqado-edge.sock")
	}
	l.whole(&c)
	if len(l.problems) > 0 {
		// Those of the file in its order, behind them the others.
		slices.SortStableFunc(l.problems, func(a, b Problem) int {
			if (a.Line > 0) != (b.Line > 0) {
				return b.Line - a.Line
			}
			return a.Line - b.Line
		})
		return Config{}, &Error{l.problems, l.file}
	}
	l.warn(&c)
	c.path = l.path
	path, env, overrides := l.path, l.env, l.overrides
	c.again = func() (Config, error) { return Load(path, env, overrides) }
	return c, nil
}

// runtimeDir is the folder systemd made for sockets, else the state folder.
func (l *loader) runtimeDir(stateDir string) string {
	dirs, _ := l.env("RUNTIME_DIRECTORY")
	if first, _, _ := strings.Cut(dirs, ":"); first != "" {
		return first
	}
	return stateDir
}

// given returns what was given for a key, weakest first.
func (l *loader) given(k key) []candidate {
	var all []candidate
	o := origin{level: fromFile, source: filepath.Base(l.path)}
	if e, ok := l.entries[k.path]; ok && !(k.secret && e.form == text && e.text == "") {
		o.line = e.line
		if k.secret && (k.plain == nil || !k.plain(e.text)) {
			l.worldReadable(o, k.path)
		}
		all = append(all, candidate{o, e.form, e.text})
	}
	if k.secret {
		if e, ok := l.entries[k.path+"_file"]; ok && e.form == text && filepath.IsAbs(e.text) {
			fileOrigin := origin{level: fromFile, source: o.source, line: e.line}
			all = l.fromFile(all, k, k.path+"_file", fileOrigin, e.text)
		}
	}
	all = append(all, l.fromEnv(k)...)
	if k.credential != "" {
		all = append(all, l.fromCredential(k)...)
	}
	o = origin{level: fromFlag, source: "flag"}
	if s, ok := l.overrides[k.path]; ok {
		all = append(all, candidate{o, untyped, s})
	}
	if s := l.overrides[k.path+"_file"]; k.secret && s != "" {
		all = l.fromFile(all, k, k.path+"_file", o, s)
	}
	return l.winnersOnly(k, all)
}

// winnersOnly reads secrets from files only where no stronger value makes the
// file irrelevant: it need not exist then.
func (l *loader) winnersOnly(k key, all []candidate) []candidate {
	kept := all[:0]
	for i, c := range all {
		if c.origin.file == "" {
			kept = append(kept, c)
			continue
		}
		if i < len(all)-1 {
			continue
		}
		content, err := l.readSecret(c.origin.file, c.origin.level != fromCredential)
		if err != nil {
			l.problems, l.file = append(l.problems, c.origin.problem(k.path, err.Error())), err
			continue
		}
		c.text = content
		kept = append(kept, c)
	}
	return kept
}

// fromFile adds a secret that stands in a file of its own, unless the same
// place also gives it directly.
func (l *loader) fromFile(all []candidate, k key, name string, o origin, path string) []candidate {
	for _, other := range all {
		if other.origin.level == o.level {
			l.problems = append(l.problems, o.problem(name, "is set, and so is "+k.path+"; only one may be"))
			return all
		}
	}
	o.file = path
	return append(all, candidate{origin: o})
}

// fromEnv returns what the environment says, under whichever of its names.
func (l *loader) fromEnv(k key) []candidate {
	if k.fileOf != "" {
		return nil // NAME_FILE is looked up with its secret
	}
	var found []candidate
	for _, n := range k.names() {
		o := origin{level: fromEnvironment, source: "environment " + n.name}
		plain, _ := l.env(n.name)
		if plain != "" {
			if _, err := strconv.ParseUint(plain, 10, 64); n.unit != "" && err != nil {
				l.problems = append(l.problems, o.problem(k.path, fmt.Sprintf("%q is not a whole number of %s", plain, n.unit)))
				continue
			}
			found = append(found, candidate{o, untyped, plain + n.unit})
		}
		if !k.secret {
			continue
		}
		o.source += "_FILE"
		if path, _ := l.env(n.name + "_FILE"); path != "" {
			if plain != "" {
				l.problems = append(l.problems, o.problem(k.path, "is set, and so is "+n.name+"; only one may be"))
				continue
			}
			o.file = path
			found = append(found, candidate{origin: o})
		}
	}
	if len(found) > 1 && (found[0].text != found[1].text || found[0].origin.file != found[1].origin.file) {
		l.problems = append(l.problems, found[1].origin.problem(k.path,
			"differs from "+strings.TrimPrefix(found[0].origin.source, "environment ")+"; only one may be set"))
	}
	return found
}

// fromCredential returns what systemd hands over. A unit may set a credential
// to UNSET where the file for it is missing, since systemd would not start
// the daemon at all otherwise.
func (l *loader) fromCredential(k key) []candidate {
	dir, _ := l.env("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil
	}
	path := filepath.Join(dir, k.credential)
	content, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) || strings.TrimSpace(string(content)) == "UNSET" {
		return nil
	}
	return []candidate{{origin: origin{level: fromCredential, source: "credential " + k.credential, file: path}}}
}

// readSecret returns the content of a secret's file without the line break an
// editor puts behind it.
func (l *loader) readSecret(path string, check bool) (string, error) {
	if check {
		if err := private(path); err != nil {
			return "", err
		}
	}
	content, err := readFile(path)
	if err != nil {
		return "", err
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if s == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return s, nil
}

// worldReadable reports a secret that stands in a configuration file everybody
// on the machine can read.
func (l *loader) worldReadable(o origin, path string) {
	info, err := os.Stat(l.path)
	if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 {
		l.problems = append(l.problems, o.problem(path,
			fmt.Sprintf("is a secret in a file everyone can read; chmod 0640 %s", l.path)))
	}
}

// missing reports a key nobody gave, unless what was given was wrong.
func (l *loader) missing(path, text string) {
	for _, p := range l.problems {
		if strings.HasPrefix(p.Path, path) {
			return
		}
	}
	source := ""
	if l.path != "" {
		source = filepath.Base(l.path)
	}
	l.problems = append(l.problems, Problem{Source: source, Path: path, Text: text})
}

// wrong reports a key whose value does not go with the others.
func (l *loader) wrong(c *Config, path, text string) {
	l.problems = append(l.problems, c.origins[path].problem(path, text))
}

// trim takes the "open" and the path apart from an error of a file: the key
// names it already.
func trim(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", file.Path, file.Err)
	}
	return err
}
