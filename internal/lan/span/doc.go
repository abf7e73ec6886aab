// Package span carries broadcasts between the boxes of one venue over a Redis,
// and says whether it can.
package span
