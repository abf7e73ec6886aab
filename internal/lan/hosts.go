package lan

import (
	"net/http"
	"net/netip"
	"strings"
)

// hosts are the names under which the box may be asked, in lower case. A page
// of somebody else can have its own name lead to the box (DNS rebinding); its
// requests then pass for the box's own, with everything but the name in Host.
type hosts map[string]bool

func newHosts(names []string) hosts {
	h := hosts{"localhost": true}
	for _, name := range names {
		h[strings.ToLower(strings.TrimSuffix(name, "."))] = true
	}
	return h
}

// SetHosts puts other names of the box in the place of those of [Config.Hosts]. It
// counts for requests from now on; who is connected stays. Safe concurrently.
func (s *Server) SetHosts(names []string) {
	h := newHosts(names)
	s.hosts.Store(&h)
}

// allows reports whether the Host of a request is one of ours: a name, a name
// that mDNS has given a number since it was taken, or any address, which cannot
// be made to lead elsewhere. Only programs send none.
func (h hosts) allows(host string) bool {
	name, ok := hostname(host)
	if !ok {
		return false
	}
	if _, err := netip.ParseAddr(name); err == nil || name == "" || h[name] {
		return true
	}
	label, local := strings.CutSuffix(name, ".local")
	dash := strings.LastIndexByte(label, '-')
	if !local || dash < 0 || len(label)-dash > 4 || strings.Trim(label[dash+1:], "0123456789") != "" {
		return false
	}
	return h[label[:dash]+".local"]
}

// hostname returns the name in a Host header without port, brackets, the dot at
// the end and capitals; false: it is none.
func hostname(host string) (name string, ok bool) {
	name = strings.ToLower(host)
	if rest, is := strings.CutPrefix(name, "["); is {
		inside, port, found := strings.Cut(rest, "]")
		return inside, found && isPort(port)
	}
	if i := strings.IndexByte(name, ':'); i >= 0 {
		if !isPort(name[i:]) {
			return "", false
		}
		name = name[:i]
	}
	return strings.TrimSuffix(name, "."), true
}

// isPort reports whether s is empty or a colon and digits.
func isPort(s string) bool {
	return s == "" || s[0] == ':' && strings.Trim(s[1:], "0123456789") == ""
}

// stolen reports whether a request goes on with a transport that was opened from
// another address: who knows the id of a session alone must not be able to read
// or speak in it.
func (s *Server) stolen(r *http.Request, sid string) bool {
	entry, ok := s.links.Load(sid)
	return ok && hostOf(entry.(*link).conn.RemoteAddress()) != hostOf(r.RemoteAddr)
}
