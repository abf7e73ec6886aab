// Package lan serves terminals and dashboards: Socket.IO sessions, rooms,
// acknowledgements, fan-out, replay and limits.
package lan
