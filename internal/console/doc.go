// Package console carries the page that a person sees who opens the address of
// the box in a browser.
package console
