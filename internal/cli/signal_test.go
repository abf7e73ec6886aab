package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// stubborn is a program that is told to end and does not: it says when it is
// ready and when it was told. See TestMain.
func stubborn() {
	cmd := &cobra.Command{RunE: untilSignal(func(cmd *cobra.Command, _ []string) error {
		fmt.Fprintln(os.Stdout, "ready")
		<-cmd.Context().Done()
		fmt.Fprintln(os.Stdout, "told")
		select {}
	})}
	_ = cmd.ExecuteContext(context.Background())
}

// The first signal is a request, the second is none.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	cmd := exec.Command("stubborn")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()
	said := bufio.NewScanner(out)
	for _, want := range []string{"ready", "told"} {
		if !said.Scan() || said.Text() != want {
			t.Fatalf("it says %q, not %s", said.Text(), want)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	expectSignalled(t, cmd, syscall.SIGTERM)
}

// A command that has nothing to finish needs no second signal, even while it
// waits for somebody to type.
func TestSignalEndsWhatWaitsForInput(t *testing.T) {
	cmd := exec.Command("avoqado-edge", "token", "inspect")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	expectSignalled(t, cmd, syscall.SIGINT)
}

// expectSignalled sends the signal until the process has ended by it: one may
// be swallowed while the process changes from one handling to the other.
func expectSignalled(t *testing.T, cmd *exec.Cmd, s syscall.Signal) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; {
		select {
		case <-done:
			status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || !status.Signaled() || status.Signal() != s {
				t.Errorf("it ended with %s", cmd.ProcessState)
			}
			return
		case <-tick.C:
			_ = cmd.Process.Signal(s)
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-done
			t.Fatal("it does not end")
		}
	}
}
