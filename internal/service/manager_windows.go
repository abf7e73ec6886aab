package service

import (
	"context"
	"sync"

	"golang.org/x/sys/windows/svc"
)

// Managed runs run, as the service manager wants it if that started this
// process: a service of Windows reports to it, and run's context ends when it
// says stop.
func Managed(ctx context.Context, run func(context.Context) error) error {
	managed, err := svc.IsWindowsService()
	if err != nil {
		return err
	}
	if !managed {
		return run(ctx)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	h := &handler{run: func() error { return run(ctx) }, stop: stop}
	if err := svc.Run(Name, h); err != nil {
		return err
	}
	return h.err
}

// handler is what the service manager talks to.
type handler struct {
	run  func() error
	stop func()
	err  error // of run, once Execute has returned
}

// Execute implements [svc.Handler].
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (ours bool, code uint32) {
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { defer close(ended); h.err = h.run() })
	defer running.Wait()
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	for {
		select {
		case <-ended:
			if h.err != nil {
				return true, 1
			}
			return false, 0
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending}
				h.stop()
			}
		}
	}
}
