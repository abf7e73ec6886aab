// Package config reads and checks the configuration of a box, once, at the
// edge: what comes out is complete, typed and right, or every problem at once.
package config
