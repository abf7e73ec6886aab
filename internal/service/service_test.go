package service

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	kardianos "github.com/kardianos/service"
)

// machine is a systemd that knows one unit, or none.
type machine struct {
	kardianos.Service
	fragment, state string
	packaged        string // program that a package owns
	calls           []string
	fail            error
}

func (m *machine) Platform() string { return "linux-systemd" }

func (m *machine) Install() error   { m.calls = append(m.calls, "install"); return m.fail }
func (m *machine) Uninstall() error { m.calls = append(m.calls, "uninstall"); return m.fail }
func (m *machine) Stop() error      { m.calls = append(m.calls, "stop"); return nil }

func (m *machine) run(_ []byte, name string, args ...string) (string, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	switch {
	case strings.Contains(line, "FragmentPath"):
		return m.fragment + "\n", nil
	case strings.Contains(line, "LoadState"):
		return m.state, nil
	case name == "dpkg-query" && args[1] == m.packaged:
		return "avoqado-edge: " + m.packaged, nil
	case name == "systemd-sysusers":
		m.calls = append(m.calls, "user")
		return "", nil
	}
	return "", errors.New("exit status 1")
}

const (
	gone    = "LoadState=not-found\nActiveState=inactive\nSubState=dead\n"
	running = "LoadState=loaded\nActiveState=active\nSubState=running\n"
	again   = "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n"
)

// TestInstall: the service is made once, for a program that its sandbox can
// reach, and never beside a package.
func TestInstall(t *testing.T) {
	for _, c := range []struct {
		name, program string
		machine       machine
		refused       string
		calls         string
	}{
		{"bare", "/usr/local/bin/avoqado-edge", machine{state: gone}, "", "user install"},
		{"unit of a package", "/usr/local/bin/avoqado-edge", machine{state: running, fragment: "/usr/lib/systemd/system/avoqado-edge.service"}, "systemctl enable --now", ""},
		{"program of a package", "/usr/bin/avoqado-edge", machine{state: gone, packaged: "/usr/bin/avoqado-edge"}, "installed by a package (/usr/bin/avoqado-edge)", ""},
		{"again", "/usr/local/bin/avoqado-edge", machine{state: running, fragment: "/etc/systemd/system/avoqado-edge.service"}, "installed already and running", ""},
		{"hidden", "/tmp/avoqado-edge", machine{state: gone}, "/usr/local/bin/", ""},
		{"strange", "/opt/a b/avoqado-edge", machine{state: gone}, "characters that a unit cannot name", ""},
		{"failing", "/usr/local/bin/avoqado-edge", machine{state: gone, fail: errors.New("no room")}, "no room", "user install"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Service{program: c.program, system: &c.machine, run: c.machine.run}
			err := s.Install()
			if (c.refused == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("error %v", err)
			}
			if calls := strings.Join(c.machine.calls, " "); calls != c.calls {
				t.Errorf("calls %q, want %q", calls, c.calls)
			}
		})
	}
}

func TestUninstall(t *testing.T) {
	m := &machine{state: running, fragment: "/etc/systemd/system/avoqado-edge.service"}
	s := &Service{program: "/usr/local/bin/avoqado-edge", system: m, run: m.run}
	if err := s.Uninstall(); err != nil || fmt.Sprint(m.calls) != "[stop uninstall]" {
		t.Errorf("%v, calls %v", err, m.calls)
	}
	m.fragment, m.calls = "/usr/lib/systemd/system/avoqado-edge.service", nil
	var packaged *PackagedError
	if err := s.Uninstall(); !errors.As(err, &packaged) || !strings.Contains(err.Error(), "apt remove avoqado-edge") || m.calls != nil {
		t.Errorf("%v, calls %v", err, m.calls)
	}
}

// SysV's script ends with code 1 when the service is stopped.
func TestSysVState(t *testing.T) {
	for program, want := range map[string]string{"true": Running, "false": Stopped} {
		s := &Service{program: "/x", run: func([]byte, string, ...string) (string, error) { return run(nil, program) }}
		if got, err := s.sysVState(); err != nil || got != want {
			t.Errorf("%s: %q, %v", program, got, err)
		}
	}
	s := &Service{run: func([]byte, string, ...string) (string, error) { return run(nil, "no-such-program") }}
	if got, err := s.sysVState(); err == nil {
		t.Errorf("no script to ask, but %q", got)
	}
}

func TestState(t *testing.T) {
	for said, want := range map[string]string{
		gone: NotInstalled, running: Running, again: "activating (auto-restart)",
		"LoadState=loaded\nActiveState=inactive\nSubState=dead\n": Stopped,
	} {
		m := &machine{state: said}
		s := &Service{program: "/x", system: m, run: m.run}
		if got, err := s.State(); err != nil || got != want {
			t.Errorf("%q: %q, %v", said, got, err)
		}
	}
}
