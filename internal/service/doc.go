// Package service installs, removes and queries the OS service that keeps the
// box running.
package service
