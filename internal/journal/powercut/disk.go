//go:build linux && (amd64 || arm64)

package powercut

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// serveEnv tells the test binary that it is the process that serves a disk.
const serveEnv = "AVOQADO_POWERCUT_SERVE"

// ErrUnavailable says that this machine lets nobody, or not us, mount a file
// system of our own.
var ErrUnavailable = errors.New("no FUSE")

// Disk is a disk whose power can be cut. Its methods must not be called
// concurrently.
type Disk struct {
	cmd *exec.Cmd
	in  io.Closer
	to  *json.Encoder
	of  *json.Decoder
}

// Main serves a disk if Start has started this process to do that, and reports
// whether it has. TestMain of a test that uses a Disk calls it first.
func Main() (served bool, err error) {
	if os.Getenv(serveEnv) == "" {
		return false, nil
	}
	return true, Serve(os.Stdin, os.Stdout)
}

// Start makes an empty disk. ErrUnavailable says why there cannot be one.
func Start() (*Disk, error) {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	_ = f.Close() // nothing was written
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: mounting takes root", ErrUnavailable)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start disk: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start disk: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start disk: %w", err)
	}
	return &Disk{cmd: cmd, in: in, to: json.NewEncoder(in), of: json.NewDecoder(out)}, nil
}

// Format mounts an empty disk at dir.
func (d *Disk) Format(dir string, p Plan) error {
	_, err := d.ask(request{Mount: dir, Blank: true, Plan: p})
	return err
}

// Mount mounts at dir what the last cut left.
func (d *Disk) Mount(dir string, p Plan) error {
	_, err := d.ask(request{Mount: dir, Plan: p})
	return err
}

// Cut cuts the power, if that has not happened by itself, and unmounts. Files
// that are still open can be read as before; every change to them fails.
func (d *Disk) Cut() (Report, error) { return d.ask(request{}) }

// Close cuts the power for good.
func (d *Disk) Close() error { return errors.Join(d.in.Close(), d.cmd.Wait()) }

func (d *Disk) ask(r request) (Report, error) {
	if err := d.to.Encode(r); err != nil {
		return Report{}, fmt.Errorf("ask disk: %w", err)
	}
	var a answer
	if err := d.of.Decode(&a); err != nil {
		return Report{}, fmt.Errorf("ask disk: %w", err)
	}
	if a.Error != "" {
		return Report{}, errors.New(a.Error)
	}
	return a.Report, nil
}
