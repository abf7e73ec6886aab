// Command avoqado-edge is the venue box: the daemon and its command line.
package main

import (
	"context"
	"os"

	"github.com/avoqado/avoqado-edge/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
	}))
}
