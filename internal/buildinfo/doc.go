// Package buildinfo says which build of the program is running.
package buildinfo
