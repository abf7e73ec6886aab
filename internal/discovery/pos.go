package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// posKind is what the POS tablets look for: their own LAN hub.
const posKind = "_avoqado-pos._tcp"

// posService is the box as the tablets see one of theirs. With hub=0 they never
// choose it to arbitrate table leases, which a box does not do, and without kds
// they send it no kitchen tickets: it is there to be seen.
func (a *Announcer) posService(port uint16, nics []nic) service {
	sum := sha256.Sum256([]byte(a.label()))
	return service{kind: posKind, label: "Avoqado-POS-" + hex.EncodeToString(sum[:3]), port: port, txt: pairs([][2]string{
		{"did", a.cfg.Box},
		{"wired", bit(slices.ContainsFunc(nics, nic.wired))},
		{"boot", strconv.FormatInt(a.boot.UnixMilli(), 10)},
		{"venue", a.cfg.Venue},
		{"hub", "0"},
	})}
}

// wired reports whether an interface is none of a radio, as far as Linux says.
func (n nic) wired() bool {
	if n.loopback() {
		return false
	}
	_, err := os.Stat(filepath.Join("/sys/class/net", n.Name, "wireless"))
	return err != nil
}
