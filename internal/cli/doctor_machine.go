package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/discovery"
)

// Thresholds of the checks of the machine.
const (
	diskLow    = 1 << 30                // bytes free: the journal gives up what is synced below 256 MiB
	diskFull   = 300 << 20              // close to that
	diskSlow   = 100 * time.Millisecond // to have 4 KiB on disk
	diskDead   = time.Second
	memoryLow  = 64 << 20 // bytes that programs can still have
	hot        = 75.0     // °C; a Pi slows down at 80
	tooHot     = 84.0
	underVolts = 1<<0 | 1<<16 // now, and since the start: bits of get_throttled
	throttled  = 1<<1 | 1<<2 | 1<<17 | 1<<18
	oldCursor  = 15 * time.Minute
	expireSoon = 14 * 24 * time.Hour // the box's own certificates
)

// machineChecks look at what the box stands on.
func machineChecks() []check {
	of := func(look func(*daemon.Machine) []finding) func(context.Context, *patient) []finding {
		return func(ctx context.Context, p *patient) []finding {
			if p.cfgErr != nil {
				return one(isSkip, "", "needs a configuration")
			}
			m := p.machine(ctx)
			return look(&m)
		}
	}
	return []check{
		{"disk space", of(checkSpace)},
		{"disk files", of(checkInodes)},
		{"disk write", of(checkWrite)},
		{"file system", of(checkFileSystem)},
		{"memory", of(checkMemory)},
		{"load", of(checkLoad)},
		{"temperature", of(checkTemperature)},
		{"power supply", of(checkPower)},
		{"key material", of(checkKeys)},
		{"port", of(checkPort)},
		{"journal", checkJournal},
		{"unit", of(checkUnit)},
	}
}

func checkSpace(m *daemon.Machine) []finding {
	const room = "Delete what does not belong to the box, or give it a larger disk; `avoqado-edge journal compact` gives back what is synced."
	free, total := m.Disk.FreeBytes, m.Disk.TotalBytes
	switch {
	case total == 0:
		return one(isSkip, "", "the system does not say")
	case free < diskFull:
		return one(isFail, room, "%s of %s are free", size(free), size(total))
	case free < diskLow:
		return one(isWarn, room, "%s of %s are free", size(free), size(total))
	}
	return one(isOK, "", "%s of %s are free", size(free), size(total))
}

func checkInodes(m *daemon.Machine) []finding {
	if m.TotalInodes == 0 {
		return one(isSkip, "", "the file system does not count files")
	}
	if m.FreeInodes < 1000 {
		return one(isFail, "Delete small files that do not belong to the box: the disk has room, and no entries for more files.",
			"only %d more files can be made", m.FreeInodes)
	}
	return one(isOK, "", "%d more files can be made", m.FreeInodes)
}

func checkWrite(m *daemon.Machine) []finding {
	switch {
	case errors.Is(m.Write, fs.ErrPermission):
		return one(isSkip, "Run it with sudo to have the disk tried.", "this user may not write there: %v", m.Write)
	case errors.Is(m.Write, fs.ErrNotExist):
		return one(isSkip, "", "the box never ran: %v", m.Write)
	case m.Write != nil:
		return one(isFail, "Look at the kernel's log (`dmesg`): a disk that is worn out or full refuses writes. Replace it; `avoqado-edge journal backup` saves what is there.",
			"%v", m.Write)
	case m.Fsync > diskDead:
		return one(isFail, "Replace the card or disk: terminals wait that long for each answer.", "4 KiB take %s to be on disk", m.Fsync.Round(time.Millisecond))
	case m.Fsync > diskSlow:
		return one(isWarn, "Use a better card (A2) or an SSD: terminals wait that long for each answer.", "4 KiB take %s to be on disk", m.Fsync.Round(time.Millisecond))
	}
	return one(isOK, "", "4 KiB are on disk after %s", m.Fsync.Round(10*time.Microsecond))
}

func checkFileSystem(m *daemon.Machine) []finding {
	text := m.FileSystem + " (" + m.Options + ")"
	options := "," + m.Options + ","
	switch m.FileSystem {
	case "":
		return one(isSkip, "", "the system does not say")
	case "tmpfs", "ramfs", "overlay":
		return one(isFail, "Put state_dir on a real disk: what is here is gone with the power.", "state_dir is on %s", text)
	case "vfat", "exfat", "nfs", "nfs4", "cifs", "fuse.sshfs":
		return one(isFail, "Put state_dir on a local ext4: on this one a power cut can lose what was acknowledged.", "state_dir is on %s", text)
	}
	switch {
	case strings.Contains(options, ",ro,"):
		return one(isFail, "The kernel mounts a disk that has errors read-only: look at `dmesg`, replace the disk, or `mount -o remount,rw` if it was meant.",
			"state_dir is on %s, read-only", text)
	case strings.Contains(options, "nobarrier"), strings.Contains(options, "barrier=0"), strings.Contains(options, ",data=writeback,"):
		return one(isFail, "Take the option out of /etc/fstab: with it a power cut can lose what was acknowledged.", "state_dir is on %s", text)
	}
	return one(isOK, "", "%s", text)
}

func checkMemory(m *daemon.Machine) []finding {
	if m.MemoryTotal == 0 {
		return one(isSkip, "", "the system does not say")
	}
	if m.MemoryFree < memoryLow {
		return one(isFail, "See with `top` which program takes it; the box itself needs less than 100 MB.",
			"%s of %s are free for programs", size(m.MemoryFree), size(m.MemoryTotal))
	}
	return one(isOK, "", "%s of %s are free for programs", size(m.MemoryFree), size(m.MemoryTotal))
}

func checkLoad(m *daemon.Machine) []finding {
	if m.Processors == 0 {
		return one(isSkip, "", "the system does not say")
	}
	if m.Load > 4*float64(m.Processors) {
		return one(isWarn, "See with `top` which program works so hard, or waits for the disk.", "%.1f programs want one of %s", m.Load, plural(m.Processors, "core"))
	}
	return one(isOK, "", "load %.2f on %s", m.Load, plural(m.Processors, "core"))
}

func checkTemperature(m *daemon.Machine) []finding {
	const cool = "Give the box air or a heat sink, away from the oven and out of its closed drawer."
	switch {
	case m.Temperature == nil:
		return one(isSkip, "", "the machine does not say")
	case *m.Temperature >= tooHot:
		return one(isFail, cool, "%.0f °C: the processor slows down", *m.Temperature)
	case *m.Temperature >= hot:
		return one(isWarn, cool, "%.0f °C", *m.Temperature)
	}
	return one(isOK, "", "%.0f °C", *m.Temperature)
}

func checkPower(m *daemon.Machine) []finding {
	switch {
	case m.Throttled == nil:
		return one(isSkip, "", "only a Raspberry Pi says")
	case *m.Throttled&underVolts != 0:
		return one(isFail, "Use the power supply that was made for this Pi, and a short thick cable: too little voltage ruins cards and loses power.",
			"the voltage is or was too low (throttled=0x%x)", *m.Throttled)
	case *m.Throttled&throttled != 0:
		return one(isWarn, "Give the box air: the processor was slowed down.", "throttled=0x%x", *m.Throttled)
	}
	return one(isOK, "", "the voltage was never too low")
}

func checkKeys(m *daemon.Machine) []finding {
	if hidden := slices.IndexFunc(m.Files, func(f daemon.FileFault) bool { return f.Hidden }); hidden >= 0 {
		return one(isSkip, "Run it with sudo to have the keys and secrets looked at.", "this user may not look: %s", m.Files[hidden].Fault)
	}
	if len(m.Files) > 0 {
		f, worst := m.Files[0], isWarn
		texts := make([]string, 0, len(m.Files))
		for _, file := range m.Files {
			texts = append(texts, file.Path+": "+file.Fault)
			if !file.Warn && worst == isWarn {
				worst, f = isFail, file
			}
		}
		return one(worst, "Put right "+f.Path+": the file must be there, whole, and readable by the box alone.", "%s", strings.Join(texts, "; "))
	}
	const renew = "Have whoever runs the broker issue a new certificate, and put it in the place of the old one; no restart is needed."
	switch left := time.Until(m.Expires); {
	case m.Expires.IsZero():
		return one(isOK, "", "nothing to complain of")
	case left <= 0:
		return one(isFail, renew, "the box's certificate ended on %s", m.Expires.Format(time.DateOnly))
	case left < expireSoon:
		return one(isWarn, renew, "the box's certificate ends on %s", m.Expires.Format(time.DateOnly))
	}
	return one(isOK, "", "the box's certificate is good until %s", m.Expires.Format(time.DateOnly))
}

func checkPort(m *daemon.Machine) []finding {
	if m.Listen != nil {
		return one(isFail, "See with `ss -ltnp` who has it; stop that, or change lan.listen.", "%v", m.Listen)
	}
	return one(isOK, "", "the box's, or free for it")
}

func checkUnit(m *daemon.Machine) []finding {
	switch {
	case m.UnitPath == "":
		return one(isSkip, "", "no unit of systemd is installed")
	case m.UnitOlder:
		return one(isWarn, "Install the package of this version again; what is to differ belongs into `systemctl edit avoqado-edge`.",
			"%s is not the one of this program", m.UnitPath)
	}
	return one(isOK, "", "%s", m.UnitPath)
}

// checkJournal asks the running box, or reads the files of a stopped one.
func checkJournal(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err == nil {
		return journalOf(&st)
	}
	if p.cfgErr != nil {
		return one(isSkip, "", "needs a configuration")
	}
	m := p.machine(ctx)
	switch j := m.Journal; {
	case j == nil:
		return one(isSkip, "", "there is none yet")
	case j.Err != nil:
		return one(isSkip, "", "it cannot be read now: %v", j.Err)
	case len(j.Faults) > 0:
		return one(isFail, "Run `avoqado-edge journal repair`: it saves what is whole and reports what is lost.", "%s", strings.Join(j.Faults, "; "))
	default:
		return one(isOK, "", "%s, all sound", plural(j.Events, "event"))
	}
}

func journalOf(st *api.Status) []finding {
	j := &st.Journal
	switch {
	case j.Fault != "":
		return one(isFail, "Look at the disk and at `dmesg`; the box tries again by itself.", "it does not take events: %s", j.Fault)
	case !j.StuckSince.IsZero() && time.Since(j.StuckSince) > 5*time.Second:
		return one(isFail, "The disk hangs: look at `dmesg`, and replace it.", "a write began at %s and is not done", j.StuckSince.Local().Format(time.TimeOnly))
	case j.Level != "" && j.Level != "ok":
		return one(isFail, "Give the disk room, or let the box reach the cloud: see disk space and uplink.", "room is short, level %s: %s", j.Level, j.LevelReason)
	case j.Quarantined > 0:
		return one(isWarn, "Have support look at `avoqado-edge journal check`; what was whole in them was saved.", "%s in quarantine", plural(j.Quarantined, "damaged file"))
	}
	return one(isOK, "", "stored through %d, %s", j.StoredThrough, plural(j.Segments, "segment"))
}

// checkVersion tells a box that was upgraded and not started again.
func checkVersion(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil {
		return one(isOK, "", "%s", buildinfo.Read())
	}
	own := buildinfo.Read().Version
	if st.Version != own && p.cfgErr == nil && p.machine(ctx).FellBack {
		return one(isWarn, "Read `journalctl -u avoqado-edge -u avoqado-edge-trial`, and install a version that is mended.",
			"version %s did not become healthy, so the box runs %s, the one before", own, st.Version)
	}
	if st.Version != own {
		return one(isWarn, "Start the box again: `systemctl restart avoqado-edge`.", "the running box is %s, this program %s", st.Version, own)
	}
	return one(isOK, "", "%s", st.Version)
}

func checkCursor(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil || st.Uplink.State == "off" {
		return one(isSkip, "", "needs a running box with a cloud")
	}
	b := st.Journal.Backlog
	if age := time.Duration(b.OldestAgeMs) * time.Millisecond; age > oldCursor {
		return one(isWarn, "See uplink and back-end; the events are safe in the box.", "%s for the cloud, the oldest for %s", waits(b.Events), ago(b.OldestAgeMs))
	}
	return one(isOK, "", "%s", waits(b.Events))
}

func waits(n uint64) string {
	if n == 1 {
		return "1 event waits"
	}
	return fmt.Sprintf("%d events wait", n)
}

func checkParked(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil || st.Uplink.State == "off" {
		return one(isSkip, "", "needs a running box with a cloud")
	}
	if st.Uplink.Parked > 0 {
		return one(isWarn, "See `avoqado-edge events list --parked`, and settle them by retry, edit or drop.", "%s not taken by the cloud", plural(st.Uplink.Parked, "event"))
	}
	return one(isOK, "", "none")
}

func checkTwin(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil || st.Uplink.State == "off" {
		return one(isSkip, "", "needs a running box with a cloud")
	}
	if n := st.Uplink.Failures["client_id_takeover"]; n > 0 {
		f := one(isWarn, "Two boxes use the same box.id: give one of them another, or turn off the copy.", "another box took this one's place at the broker %s since the start", plural(n, "time"))
		f[0].Cause = "client_id_takeover"
		return f
	}
	return one(isOK, "", "nobody else uses this box's id")
}

func checkDiscovery(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	switch {
	case err != nil:
		return one(isSkip, "", "no box is running")
	case st.Discovery.State == "off":
		return one(isSkip, "", "discovery.mode is off")
	case st.Discovery.State == "failing":
		return one(isFail, "Let UDP port 5353 through, and stop other programs that hold it alone; terminals can be given the address meanwhile.", "%s", st.Discovery.Error)
	}
	// The box's own word is not enough: it is looked for as a terminal does.
	const hidden = "Let UDP port 5353 through on the box and the network (Wi-Fi: multicast, client isolation off); terminals can be given the address meanwhile."
	r := p.find(ctx, st.Box)
	answers := slices.IndexFunc(r.Refused, func(f discovery.Found) bool { return !f.Silent })
	switch {
	case answers >= 0:
		other := r.Refused[answers]
		return one(isFail, "Another device answers as this box: find it at its address and turn it off.", "%s at %s: %s", other.Box, other.Address, other.Refused)
	case len(r.Found) == 0 && len(r.Refused) > 0 && onlyHere(st.LAN.Address):
		return one(isWarn, "Set lan.listen to :8080, so that the box is where it is announced.", "seen at %s, where nobody answers: lan.listen is %s, which is this machine alone", r.Refused[0].Address, st.LAN.Address)
	case len(r.Found) == 0 && len(r.Refused) > 0: // the terminals' door is looked at by another check
		return one(isOK, "", "%s; seen at %s, where nobody answers", describeDiscovery(st.Discovery), r.Refused[0].Address)
	case len(r.Found) == 0:
		return one(isFail, hidden, "%s, and nobody who asks for it gets an answer", describeDiscovery(st.Discovery))
	}
	return one(isOK, "", "%s; seen at %s", describeDiscovery(st.Discovery), r.Found[0].Address)
}

// onlyHere reports whether an address is reached from this machine alone.
func onlyHere(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().IsLoopback()
}

// checkTerminals asks the box where terminals ask it.
func checkTerminals(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil {
		return one(isSkip, "", "no box is running")
	}
	asked, err := p.askLAN(ctx, st.LAN.Address)
	if err != nil {
		return one(isFail, "Look for a firewall on the box (`nft list ruleset`), and at lan.listen.", "nothing answers at %s: %v", asked, err)
	}
	return one(isOK, "", "%s answers, %s there", asked, plural(st.LAN.Terminals, "terminal"))
}

// checkTLS looks at the certificate that the box shows to terminals.
func checkTLS(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil || st.LAN.TLS == nil {
		return one(isSkip, "", "needs a running box with lan.tls")
	}
	t := st.LAN.TLS
	renew := "Put a new certificate in the place of the old one (lan.tls_cert_file); the box takes it without a restart."
	if t.Mode == string(config.TLSAuto) {
		renew = "The box renews it by itself: see with `journalctl -u avoqado-edge` why it could not, and whether its clock is right."
	}
	switch left := time.Until(t.Expires); {
	case t.Error != "":
		return one(isFail, "Put right what it names; terminals without TLS are served meanwhile.", "%s", t.Error)
	case left <= 0:
		return one(isFail, renew, "the certificate for terminals ended on %s", t.Expires.Format(time.DateOnly))
	case left < expireSoon:
		return one(isWarn, renew, "the certificate for terminals ends on %s", t.Expires.Format(time.DateOnly))
	}
	return one(isOK, "", "the certificate for terminals is good until %s", t.Expires.Format(time.DateOnly))
}
