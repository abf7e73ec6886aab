// Package simulate plays a venue against a box: terminals that sell and
// dashboards that listen, over real Socket.IO.
package simulate
