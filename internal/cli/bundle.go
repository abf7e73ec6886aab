package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
)

// The bounds of a bundle.
const (
	bundleEvents = 500
	bundleLines  = "2000" // of the system's log
	answerTime   = 5 * time.Second
)

// part is a file of a bundle.
type part struct {
	name  string
	body  []byte
	lines bool // whole lines, the newest last: the oldest can be left out
}

// partOf returns a part, or why it could not be had.
func partOf(name string, body []byte, lines bool, err error) part {
	if err != nil {
		return part{name: name + ".missing", body: []byte(err.Error() + "\n")}
	}
	return part{name, body, lines}
}

func jsonPart(name string, v any, err error) part {
	var text bytes.Buffer
	if err == nil {
		err = printJSON(&text, v)
	}
	return partOf(name, text.Bytes(), false, err)
}

// linesPart writes each as one line of JSON.
func linesPart[T any](name string, list []T, err error) part {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	for _, v := range list {
		err = errors.Join(err, enc.Encode(v))
	}
	return partOf(name, text.Bytes(), true, err)
}

// inTime asks a box that may have stopped to answer.
func inTime[T any](ctx context.Context, wait time.Duration, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return ask(ctx)
}

// gather asks for all that a bundle holds, the most important first. What it
// cannot have it says; it takes half a minute where everything hangs.
func gather(ctx context.Context, cfg config.Config, cfgErr error, socket string, payloads bool) []part {
	c := api.NewClient(socket)
	wait := answerTime
	st, stErr := inTime(ctx, wait, c.Status)
	if stErr != nil {
		wait /= 5 // nor will it answer the rest
	}
	parts := []part{
		jsonPart("build.json", buildinfo.Read(), nil),
		jsonPart("status.json", st, stErr),
		jsonPart("doctor.json", examine(ctx, newPatient(cfg, cfgErr, socket)), nil),
		jsonPart("config.json", config.Effective(cfg), cfgErr),
	}
	metrics, err := inTime(ctx, wait, c.Metrics)
	parts = append(parts, partOf("metrics.txt", metrics, false, err))
	figures, err := inTime(ctx, wait, c.Journal)
	parts = append(parts, jsonPart("journal.json", figures, err))
	past, err := inTime(ctx, wait, c.Outages)
	slices.Reverse(past) // the newest last, as in all of them
	parts = append(parts, linesPart("outages.jsonl", past, err))
	parts = append(parts, saidBy(ctx, wait, c, cfg)...)
	parked, err := inTime(ctx, wait, c.Parked)
	for i := range parked {
		if !payloads {
			parked[i].Payload = nil
		}
	}
	parts = append(parts, linesPart("parked.jsonl", parked, err))
	events, err := inTime(ctx, wait, func(ctx context.Context) ([]api.Record, error) { return c.Events(ctx, -1, bundleEvents) })
	for i := range events {
		if !payloads {
			events[i].Payload = nil
		}
	}
	return append(parts, linesPart("events.jsonl", events, err))
}

// saidBy returns the log: that of the running box, or what one left behind.
func saidBy(ctx context.Context, wait time.Duration, c *api.Client, cfg config.Config) []part {
	d, err := inTime(ctx, wait, c.Diagnosis)
	if err != nil && cfg.StateDir != "" {
		left := daemon.LeftLog(cfg.StateDir)
		d.LogBefore, d.Crash, d.Crashed = left.Before, left.Crash, left.Crashed
	}
	parts := []part{
		jsonPart("process.json", d.Process, err),
		partOf("log.txt", []byte(d.Log), true, err),
		partOf("log-before.txt", []byte(d.LogBefore), true, nil),
		partOf("goroutines.txt", []byte(d.Goroutines), false, err),
	}
	if d.Crash != "" {
		text := fmt.Sprintf("Written %s.\n\n%s", d.Crashed.Format(time.RFC3339), d.Crash)
		parts = append(parts, part{name: "crash.txt", body: []byte(text)})
	}
	return parts
}

// systemLog is what the service manager keeps, which the box may not read.
func systemLog(ctx context.Context) part {
	log, err := exec.CommandContext(ctx, "journalctl", "--unit", "avoqado-edge", "--lines", bundleLines, "--no-pager", "--output", "short-iso").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("the system's log: %w: %s", err, strings.TrimSpace(string(log)))
	}
	return partOf("system-log.txt", log, true, err)
}

// pack makes an archive of at most so many bytes. What has no room is left out
// and named: the oldest lines first, half of the longest part at a time; of what
// has no lines to spare, whole parts from the end.
func pack(parts []part, most int) (daemon.Bundle, error) {
	whole := map[string]int{}
	for _, p := range parts {
		whole[p.name] = bytes.Count(p.body, []byte("\n"))
	}
	parts = slices.Clone(parts)
	var gone []string
	for {
		left := slices.Clone(gone)
		for _, p := range parts {
			if n, all := bytes.Count(p.body, []byte("\n")), whole[p.name]; n < all {
				left = append(left, fmt.Sprintf("%s: the older %d of %d lines", p.name, all-n, all))
			}
		}
		archive, err := archiveOf(parts, left)
		if err != nil || len(archive) <= most {
			return daemon.Bundle{Archive: archive, LeftOut: left}, err
		}
		if i := longest(parts); i >= 0 {
			parts[i].body = newerHalf(parts[i].body)
			continue
		}
		if len(parts) == 0 {
			return daemon.Bundle{}, fmt.Errorf("no bundle fits into %d bytes", most)
		}
		last := parts[len(parts)-1]
		gone = append(gone, fmt.Sprintf("%s: all %d bytes", last.name, len(last.body)))
		parts = parts[:len(parts)-1]
	}
}

// spare is how much of a part with lines is never cut.
const spare = 1 << 10

// longest returns the part that has most lines to spare, by bytes; -1: none has.
func longest(parts []part) int {
	found := -1
	for i, p := range parts {
		if p.lines && len(p.body) > spare && bytes.Count(p.body, []byte("\n")) > 1 && (found < 0 || len(p.body) > len(parts[found].body)) {
			found = i
		}
	}
	return found
}

// newerHalf returns the lines behind the middle, of two or more: at least one
// line less.
func newerHalf(lines []byte) []byte {
	if at := bytes.IndexByte(lines[len(lines)/2:], '\n'); at >= 0 && len(lines)/2+at+1 < len(lines) {
		return lines[len(lines)/2+at+1:]
	}
	return lines[bytes.IndexByte(lines, '\n')+1:] // the last line is longer than all others
}

func archiveOf(parts []part, left []string) ([]byte, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	files := tar.NewWriter(zip)
	if len(left) > 0 {
		parts = append(slices.Clone(parts), part{name: "left-out.txt", body: []byte(strings.Join(left, "\n") + "\n")})
	}
	for _, p := range parts {
		err = errors.Join(err, files.WriteHeader(&tar.Header{Name: "avoqado-edge/" + p.name, Mode: 0o600, Size: int64(len(p.body)), ModTime: time.Now().Truncate(time.Second)}))
		if err == nil {
			_, err = files.Write(p.body)
		}
	}
	err = errors.Join(err, files.Close(), zip.Close())
	return out.Bytes(), err
}
