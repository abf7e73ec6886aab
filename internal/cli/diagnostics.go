package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/config"
)

// The bounds of a bundle.
const (
	bundleEvents = 500
	bundleLines  = "2000" // of the system's log
)

func newDiagnostics(s Streams) *cobra.Command {
	var out string
	var payloads bool
	cmd := &cobra.Command{
		Use: "diagnostics", Short: "Collect what support looks at into one file", Args: cobra.NoArgs,
		Long: `Writes a .tar.gz with the status, what doctor finds, the outages, the metrics,
the journal's figures, the last log lines of the service where systemd keeps
them, the last events without their payloads, and the configuration without its
secrets. A part that cannot be had is named in it. It works without a running
box, which can tell less. Exit code 1: the file could not be written.`,
		Example: `  avoqado-edge diagnostics
  avoqado-edge diagnostics --out /tmp/box.tar.gz --payloads`,
	}
	path := configFlag(cmd)
	socket := socketFlag(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write (default avoqado-edge-TIME.tar.gz)")
	cmd.Flags().BoolVar(&payloads, "payloads", false, "with the payloads of events")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(*path, nil)
		if err == nil && !cmd.Flags().Changed("socket") && *socket == defaultSocket() {
			*socket = cfg.Socket
		}
		if out == "" {
			out = "avoqado-edge-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
		defer cancel()
		f, createErr := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if createErr != nil {
			return createErr
		}
		b := newBundle(f)
		b.collect(ctx, cfg, err, *socket, payloads)
		if err := errors.Join(b.close(), f.Close()); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.Out, out)
		return err
	}
	return cmd
}

// bundle is an archive that remembers its first error.
type bundle struct {
	zip *gzip.Writer
	tar *tar.Writer
	err error
}

func newBundle(f *os.File) *bundle {
	zip := gzip.NewWriter(f)
	return &bundle{zip: zip, tar: tar.NewWriter(zip)}
}

func (b *bundle) close() error { return errors.Join(b.err, b.tar.Close(), b.zip.Close()) }

// add writes a part, or why it could not be had.
func (b *bundle) add(name string, body []byte, err error) {
	if err != nil {
		name, body = name+".missing", []byte(err.Error()+"\n")
	}
	if b.err == nil {
		b.err = b.tar.WriteHeader(&tar.Header{Name: "avoqado-edge/" + name, Mode: 0o600, Size: int64(len(body)), ModTime: time.Now()})
	}
	if b.err == nil {
		_, b.err = b.tar.Write(body)
	}
}

func (b *bundle) json(name string, v any, err error) {
	if err != nil {
		b.add(name, nil, err)
		return
	}
	var text bytes.Buffer
	err = printJSON(&text, v)
	b.add(name, text.Bytes(), err)
}

func (b *bundle) collect(ctx context.Context, cfg config.Config, cfgErr error, socket string, payloads bool) {
	c := api.NewClient(socket)
	b.json("build.json", buildinfo.Read(), nil)
	b.json("config.json", config.Effective(cfg), cfgErr)
	b.json("doctor.json", examine(ctx, newPatient(cfg, cfgErr, socket)), nil)
	st, err := c.Status(ctx)
	b.json("status.json", st, err)
	past, err := c.Outages(ctx)
	b.json("outages.json", past, err)
	figures, err := c.Journal(ctx)
	b.json("journal.json", figures, err)
	metrics, err := c.Metrics(ctx)
	b.add("metrics.txt", metrics, err)
	events, err := c.Events(ctx, -1, bundleEvents)
	for i := range events {
		if !payloads {
			events[i].Payload = nil
		}
	}
	b.json("events.json", events, err)
	parked, err := c.Parked(ctx)
	for i := range parked {
		if !payloads {
			parked[i].Payload = nil
		}
	}
	b.json("parked.json", parked, err)
	log, err := exec.CommandContext(ctx, "journalctl", "--unit", "avoqado-edge", "--lines", bundleLines, "--no-pager", "--output", "short-iso").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("the system's log: %w: %s", err, strings.TrimSpace(string(log)))
	}
	b.add("log.txt", log, err)
}
