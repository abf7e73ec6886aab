package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/systemd"
)

// Machine is what a technician would look at beside the running box. What
// cannot be told is zero, or says so in an error.
type Machine struct {
	Disk        api.DiskStatus
	FreeInodes  uint64 // of TotalInodes; zero of zero: not told, or unlimited
	TotalInodes uint64

	FileSystem string // type of the state directory's
	Options    string // it is mounted with

	Write error         // why a file cannot be written in the state directory; fs.ErrPermission: this user may not
	Fsync time.Duration // to write 4 KiB and have it on disk: the median of some

	MemoryTotal, MemoryFree uint64 // bytes; free is what programs can still have
	Load                    float64
	Processors              int

	Temperature *float64 // °C of the processor
	Throttled   *uint64  // what the firmware of a Raspberry Pi says, as vcgencmd get_throttled

	Files     []FileFault   // configured files that cannot be used
	Expires   time.Time     // of the box's own certificate for the broker; zero: it has none
	Listen    error         // why the LAN's port cannot be had; only asked for if no box runs
	Journal   *JournalCheck // only asked for if no box runs
	UnitPath  string        // of the installed unit; empty: there is none, or no systemd
	UnitOlder bool          // it is not the one of this program
	FellBack  bool          // the service is the version before: the newest did not become healthy
}

// FileFault is a file of the configuration with what is wrong with it.
type FileFault struct {
	Path, Fault string
	Warn        bool // it works, and should not be so
	Hidden      bool // it may be sound: this user may not look at it
}

// JournalCheck is what reading the files of a stopped box found.
type JournalCheck struct {
	Events uint64
	Faults []string
	Err    error // it could not be checked
}

// lookTime bounds what may hang: a look at the disk.
const lookTime = 6 * time.Second

var errDiskHangs = errors.New("the disk does not finish a write")

// examined bounds a check of the journal's files to what can be read in time.
const examined = 256 << 20

// LookAtMachine examines the machine within some seconds. It writes a small
// file into the state directory and removes it. running says that a box runs:
// then its port and its journal are left alone. root is where /proc, /sys and
// /etc are looked for, "/" for this machine.
func LookAtMachine(ctx context.Context, cfg config.Config, running bool, root string) Machine {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var m Machine
	m.Disk = diskStatus(cfg.StateDir)
	m.FreeInodes, m.TotalInodes = inodes(cfg.StateDir)
	m.FileSystem, m.Options = mountOf(readText(root, "proc/self/mounts"), cfg.StateDir)
	m.Write = errDiskHangs
	if t, done := inTime(ctx, func() trial { return tryDisk(ctx, cfg.StateDir) }); done {
		m.Fsync, m.Write = t.took, t.err
	}
	m.MemoryTotal, m.MemoryFree = memoryIn(readText(root, "proc/meminfo"))
	m.Load, m.Processors = loadIn(readText(root, "proc/loadavg")), strings.Count(readText(root, "proc/cpuinfo"), "processor\t")
	if milli, err := strconv.Atoi(readText(root, "sys/class/thermal/thermal_zone0/temp")); err == nil {
		celsius := float64(milli) / 1000
		m.Temperature = &celsius
	}
	if bits, err := strconv.ParseUint(readText(root, "sys/devices/platform/soc/soc:firmware/get_throttled"), 16, 32); err == nil {
		m.Throttled = &bits
	}
	m.Files, m.Expires = filesOf(&cfg)
	for _, dir := range []string{"etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"} {
		path := filepath.Join(root, dir, "avoqado-edge.service")
		if installed, err := os.ReadFile(path); err == nil {
			m.UnitPath, m.UnitOlder = path, !bytes.Equal(installed, systemd.Unit)
			break
		}
	}
	_, err := os.Stat(filepath.Join(root, "etc/systemd/system/avoqado-edge.service.d/50-fallback.conf")) // of packaging/trial
	m.FellBack = err == nil
	if !running {
		m.Listen = tryPort(ctx, cfg.LAN.Listen)
		m.Journal = &JournalCheck{Err: errors.New("reading it takes longer than this may: avoqado-edge journal check")}
		if c, done := inTime(ctx, func() *JournalCheck { return checkFiles(JournalDir(cfg.StateDir)) }); done {
			m.Journal = c
		}
	}
	return m
}

func readText(root, path string) string {
	raw, _ := os.ReadFile(filepath.Join(root, path)) // what is not there is not told
	return strings.TrimSpace(string(raw))
}

// mountOf finds the mount that holds a path in /proc/self/mounts (fstab(5)).
func mountOf(mounts, path string) (kind, options string) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	best := -1
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		at := strings.ReplaceAll(f[1], `\040`, " ")
		if (path == at || strings.HasPrefix(path, strings.TrimSuffix(at, "/")+"/")) && len(at) >= best {
			best, kind, options = len(at), f[2], f[3]
		}
	}
	return kind, options
}

func memoryIn(meminfo string) (total, free uint64) {
	for line := range strings.Lines(meminfo) {
		if f := strings.Fields(line); len(f) >= 2 {
			n, _ := strconv.ParseUint(f[1], 10, 54)
			switch f[0] {
			case "MemTotal:":
				total = n << 10
			case "MemAvailable:":
				free = n << 10
			}
		}
	}
	return total, free
}

func loadIn(loadavg string) float64 {
	_, rest, _ := strings.Cut(loadavg, " ") // the middle one: of five minutes
	five, _, _ := strings.Cut(rest, " ")
	load, _ := strconv.ParseFloat(five, 64)
	return load
}

// inTime returns what do does, unless ctx ends first. On a dead disk do hangs in
// the kernel, where nobody can call it back: it is left behind.
func inTime[T any](ctx context.Context, do func() T) (result T, done bool) {
	answer := make(chan T, 1)
	new(sync.WaitGroup).Go(func() { answer <- do() })
	select {
	case result = <-answer:
		return result, true
	case <-ctx.Done():
		return result, false
	}
}

// trial is how a disk did.
type trial struct {
	took time.Duration
	err  error
}

// tryDisk writes and flushes a file as the journal would.
func tryDisk(ctx context.Context, dir string) trial {
	f, err := os.CreateTemp(dir, "doctor-*.tmp")
	if err != nil {
		return trial{err: err}
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	const tries = 7
	took := make([]time.Duration, 0, tries)
	page := bytes.Repeat([]byte{0xa5}, 4096)
	for range tries {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return trial{err: err}
		}
		if err := f.Sync(); err != nil {
			return trial{err: err}
		}
		took = append(took, time.Since(began))
		if ctx.Err() != nil {
			break // it is that slow
		}
	}
	slices.Sort(took)
	return trial{took: took[len(took)/2]}
}

func tryPort(ctx context.Context, listen string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	return l.Close()
}

// checkFiles reads through the journal of a stopped box, if that is quick.
func checkFiles(dir string) *JournalCheck {
	var size int64
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it never ran
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && strings.HasSuffix(f.Name(), ".seg") {
			size += info.Size()
		}
	}
	if size > examined {
		return &JournalCheck{Err: fmt.Errorf("%d MiB take longer than this may: avoqado-edge journal check", size>>20)}
	}
	report, err := journal.Check(dir)
	c := &JournalCheck{Events: report.Events, Err: err, Faults: report.Problems}
	for _, s := range report.Segments {
		if s.Err != nil {
			c.Faults = append(c.Faults, fmt.Sprintf("%s: %v", s.Path, s.Err))
		}
	}
	for _, lost := range report.NewLosses() {
		c.Faults = append(c.Faults, lost.Error())
	}
	return c
}

// filesOf looks at the files that the configuration names. Of secrets it says
// no more than that they are there.
func filesOf(cfg *config.Config) (faults []FileFault, expires time.Time) {
	u := &cfg.Uplink
	fault := func(path string, err error) {
		faults = append(faults, FileFault{Path: path, Fault: err.Error(), Hidden: errors.Is(err, fs.ErrPermission)})
	}
	for _, path := range []string{u.PasswordFile, u.KeyFile, cfg.Auth.AccessTokenSecretFile, cfg.Auth.PreviousSecretFile, filepath.Join(cfg.StateDir, "identity.key")} {
		info, err := os.Stat(path)
		switch {
		case path == "" || errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) == filepath.Clean(cfg.StateDir):
		case err != nil:
			fault(path, err)
		case runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0: // rights are no modes there
			text := fmt.Sprintf("everybody on this machine may read it (mode %#o): chmod 0600", info.Mode().Perm())
			faults = append(faults, FileFault{Path: path, Fault: text, Warn: true})
		}
	}
	if u.CAFile != "" {
		raw, err := os.ReadFile(u.CAFile)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(raw) {
			err = errors.New("holds no certificate")
		}
		if err != nil {
			fault(u.CAFile, err)
		}
	}
	if u.CertFile != "" && u.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(u.CertFile, u.KeyFile)
		if err != nil {
			fault(u.CertFile, err)
		} else if pair.Leaf != nil {
			expires = pair.Leaf.NotAfter
		}
	}
	return faults, expires
}

// AskOverLAN asks the box at its LAN address, as a terminal would: by an
// address of this machine where it listens on all.
func AskOverLAN(ctx context.Context, listen string) (asked string, err error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen, err
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
		host = "127.0.0.1"
		if own := lanHosts(); len(own) > 0 {
			host = own[0]
		}
	}
	asked = net.JoinHostPort(host, port)
	at, err := net.ResolveTCPAddr("tcp", asked)
	if err != nil {
		return asked, err
	}
	return asked, answers(ctx, at)
}

// lanHosts lists the addresses of this machine at which others reach it.
func lanHosts() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []string
	for _, a := range addrs {
		ipnet, ok := a.(*net.IPNet)
		if ok && !ipnet.IP.IsLoopback() && !ipnet.IP.IsLinkLocalUnicast() {
			list = append(list, ipnet.IP.String())
		}
	}
	return list
}
