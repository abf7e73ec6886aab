package journal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// childEnv makes the test binary a process that appends until it is killed.
const childEnv = "JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if work := os.Getenv(workloadEnv); work != "" {
		if err := workChild(work); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child appends from several goroutines and prints each receipt. The payload
// tells its sender and how many that one sent before.
func child(dir string) error {
	j, err := Open(dir, small)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				e := sample(i)
				e.ID = event.ID(fmt.Sprintf("%d.%d.%d", os.Getpid(), c, i))
				e.Payload = crashPayload(string(e.ID))
				r, err := j.Append(ctx, e)
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				mu.Lock()
				fmt.Fprintf(os.Stdout, "%d %s\n", r.Seq, r.ID)
				mu.Unlock()
				if i%50 == 49 {
					if err := j.MoveCursor("c"+strconv.Itoa(c), r.Seq); err != nil {
						fmt.Fprintln(os.Stderr, err)
					}
				}
			}
		})
	}
	wg.Go(func() { // the parent closes stdin to end a round in order
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		cancel()
	})
	err = j.Run(ctx)
	wg.Wait()
	if err != nil {
		return err
	}
	return j.Close()
}

func crashPayload(id string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"pad":"%s"}`, id, strings.Repeat("x", len(id)*17%400))
}

// TestKill kills a process that appends, again and again, and looks at what is
// left: every acknowledged event at its seq with its bytes, and no gap.
func TestKill(t *testing.T) {
	rounds := 15
	if testing.Short() {
		rounds = 4
	}
	dir := newJournal(t, small)
	acked := map[event.Seq]string{}
	var newest event.Seq
	for round := range rounds {
		killAfter := 1 + rand.IntN(600)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		for n := 0; lines.Scan(); n++ {
			seq, id, ok := strings.Cut(lines.Text(), " ")
			at, err := strconv.ParseUint(seq, 10, 64)
			if !ok || err != nil {
				continue // the line the kill cut in two
			}
			if before, again := acked[event.Seq(at)]; again {
				t.Fatalf("round %d: seq %d acknowledged for %s and for %s", round, at, before, id)
			}
			acked[event.Seq(at)] = id
			newest = max(newest, event.Seq(at))
			if n == killAfter {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		_ = stdin.Close()
		if stderr.Len() > 0 {
			t.Fatalf("round %d: %s", round, stderr.String())
		}

		report, err := Check(dir)
		if err != nil || !report.OK() || report.Stored < newest || report.Events != uint64(report.Stored) {
			t.Fatalf("round %d: %d acknowledged: %v, %+v", round, newest, err, report)
		}
		b := start(t, dir, small)
		for _, e := range b.all() {
			if id, ok := acked[e.Seq]; ok && id != string(e.ID) {
				t.Fatalf("round %d: seq %d is %s, acknowledged was %s", round, e.Seq, e.ID, id)
			}
			if !bytes.Equal(e.Payload, crashPayload(string(e.ID))) {
				t.Fatalf("round %d: payload of %d is %s", round, e.Seq, e.Payload)
			}
		}
		b.stop()
	}
	if len(acked) < rounds {
		t.Fatalf("only %d events acknowledged", len(acked))
	}
	t.Logf("%d kills, %d events acknowledged, %d stored", rounds, len(acked), newest)
}
