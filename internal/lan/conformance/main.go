package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:3000", "host:port to serve on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	l, err := net.Listen("tcp", *listen)
	if err == nil {
		fmt.Fprintln(os.Stderr, "serving /engine.io/ and /socket.io/ on", l.Addr())
		err = run(ctx, l)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run serves both protocols until ctx ends.
func run(ctx context.Context, l net.Listener) error {
	p := newPeer()
	server := &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second}
	var group sync.WaitGroup
	hub, cancel := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() { p.hub.Run(hub) })
	failed := make(chan error, 1)
	group.Go(func() { failed <- server.Serve(l) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	p.close()
	err = errors.Join(err, server.Close())
	cancel()
	group.Wait()
	return err
}
