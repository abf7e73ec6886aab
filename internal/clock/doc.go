// Package clock says what time it is, how sure that is, and what time it was
// when something happened before it was known.
package clock
