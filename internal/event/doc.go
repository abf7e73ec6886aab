// Package event holds the words every part of the box shares: what an event
// is, who may send it, who hears it, and the catalogue that says so in one table.
package event
