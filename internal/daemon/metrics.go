package daemon

import (
	"math"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsHandler serves /metrics for one box. The parts count for themselves;
// a scrape reads their snapshots.
func metricsHandler(d *Daemon) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		newBoxCollector(d),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg})
}

// boxCollector turns snapshots into metrics. Labels come from fixed lists
// only: roles, refusal codes and reasons; never from what a client sends.
type boxCollector struct {
	box     *Daemon
	samples []sample
	byLabel []labelled
}

// sample is one number without a label. NaN says that there is nothing to count:
// then the metric is absent, and no alert rule meets it.
type sample struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*snapshot) float64
}

// labelled is a family of numbers under one label.
type labelled struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*snapshot) map[string]float64
}

func newBoxCollector(d *Daemon) *boxCollector {
	c := &boxCollector{box: d}
	c.labels(prometheus.GaugeValue, "build_info", "Which build this is; always 1.", "version",
		func(s *snapshot) map[string]float64 { return map[string]float64{s.status.Version: 1} })
	c.gauge("start_time_seconds", "When the box started, as Unix time.",
		func(s *snapshot) float64 { return float64(s.status.Started.Unix()) })
	c.gauge("clock_synchronized", "1 while a time server or the cloud confirms the box's clock.",
		func(s *snapshot) float64 { return truth(s.status.Clock.Trusted) })
	c.gauge("problems", "How many things status says someone should look at.",
		func(s *snapshot) float64 { return float64(len(s.status.Problems)) })

	c.labels(prometheus.GaugeValue, "connections", "Socket.IO sessions now, by role.", "role",
		func(s *snapshot) map[string]float64 { return floats(s.status.LAN.Roles) })
	c.gauge("sessions_behind", "Sessions that read too slowly to be live now.", func(s *snapshot) float64 { return float64(s.lan.Behind) })
	c.counter("sessions_fell_behind_total", "Times a session read too slowly to stay live.", func(s *snapshot) float64 { return float64(s.lan.FellBehind) })
	c.counter("sessions_caught_up_total", "Times such a session was live again.", func(s *snapshot) float64 { return float64(s.lan.CaughtUp) })
	c.gauge("session_backlog_bytes", "What waits to be read by the session for which most waits.", func(s *snapshot) float64 { return float64(s.lan.Backlog) })
	c.counter("connections_total", "Socket.IO sessions begun.", func(s *snapshot) float64 { return float64(s.lan.Connections) })
	c.labels(prometheus.CounterValue, "connection_rejects_total", "Connections refused or closed by the box, and bad tokens over HTTP.", "reason",
		func(s *snapshot) map[string]float64 { return floats(s.lan.Refused) })
	c.counter("events_accepted_total", "Events stored for clients of the LAN.", func(s *snapshot) float64 { return float64(s.lan.Accepted) })
	c.counter("events_duplicate_total", "Repeats answered with the first receipt.", func(s *snapshot) float64 { return float64(s.lan.Duplicates) })
	c.labels(prometheus.CounterValue, "events_refused_total", "Events answered with an error.", "code",
		func(s *snapshot) map[string]float64 { return floats(s.lan.Rejected) })
	c.counter("events_volatile_total", "Logs and heartbeats passed on without storing.", func(s *snapshot) float64 { return float64(s.lan.Volatile) })
	c.counter("events_volatile_skipped_total", "Copies of them not given to sessions that were behind.", func(s *snapshot) float64 { return float64(s.lan.Skipped) })
	c.counter("events_delivered_total", "Messages handed to clients' transports.", func(s *snapshot) float64 { return float64(s.lan.Sent) })
	c.counter("events_replayed_total", "Messages sent again to clients that came back.", func(s *snapshot) float64 { return float64(s.lan.Replayed) })
	c.counter("events_expired_total", "Stored events not shown because they were past their expiry.", func(s *snapshot) float64 { return float64(s.lan.Expired) })
	c.counter("leases_total", "Times a token that had ended was accepted while the cloud was out of reach.", func(s *snapshot) float64 { return float64(s.lan.Leases) })
	c.counter("handshakes_delayed_total", "Failed handshakes whose answer was held back.", func(s *snapshot) float64 { return float64(s.lan.Delayed) })
	c.counter("panics_contained_total", "Panics in callbacks that did not end the process.", func(s *snapshot) float64 { return float64(s.lan.Panics) })

	c.gauge("journal_stored_seq", "Sequence number of the last event on disk.", func(s *snapshot) float64 { return float64(s.status.Journal.StoredThrough) })
	c.gauge("journal_synced_seq", "Sequence number of the last event the cloud confirmed.", func(s *snapshot) float64 { return float64(s.status.Journal.SyncedThrough) })
	c.gauge("journal_segments", "Segment files.", func(s *snapshot) float64 { return float64(s.status.Journal.Segments) })
	c.gauge("journal_bytes", "Bytes the journal takes on disk.", func(s *snapshot) float64 { return float64(s.status.Journal.Bytes) })
	c.gauge("journal_healthy", "1 while the journal takes events.", func(s *snapshot) float64 { return truth(s.status.Journal.Fault == "") })
	c.counter("journal_commits_total", "Commits, each with an fsync.", func(s *snapshot) float64 { return float64(s.journal.Commits) })
	c.counter("journal_fsyncs_total", "fsync calls.", func(s *snapshot) float64 { return float64(s.journal.Fsyncs) })
	c.counter("journal_written_bytes_total", "Bytes written to the disk.", func(s *snapshot) float64 { return float64(s.journal.BytesWritten) })
	c.gauge("journal_level", "What is given up for want of room: 0 nothing, 1 early trimming, 2 service events, 3 alerts, 4 orders, 5 all.",
		func(s *snapshot) float64 { return float64(s.journal.Level) })
	c.labels(prometheus.CounterValue, "journal_refused_total", "Events refused for want of room.", "class",
		func(s *snapshot) map[string]float64 { return floats(s.journal.Refused) })
	c.gauge("journal_ballast_bytes", "Bytes kept back on the disk.", func(s *snapshot) float64 { return float64(s.journal.Ballast) })
	c.gauge("journal_max_bytes", "Cap of the journal in bytes; 0: none.", func(s *snapshot) float64 { return float64(s.journal.MaxBytes) })
	c.gauge("journal_max_events", "Cap of the journal in events; 0: none.", func(s *snapshot) float64 { return float64(s.journal.MaxEvents) })
	c.gauge("journal_stuck_seconds", "How long the write under way has taken; 0: it is quick.", func(s *snapshot) float64 { return s.stuck().Seconds() })
	c.gauge("journal_quarantined_files", "Damaged files kept for people.", func(s *snapshot) float64 { return float64(len(s.journal.Quarantine)) })
	c.counter("journal_salvaged_events_total", "Events found whole in damaged files.", func(s *snapshot) float64 { return float64(s.journal.Salvaged) })
	c.counter("journal_lost_events_total", "Events that cannot be read any more.", func(s *snapshot) float64 { return float64(s.journal.LostEvents) })
	c.gauge("journal_bytes_per_event", "Bytes written to the disk per event since the start.", func(s *snapshot) float64 { return s.journal.BytesPerEvent })
	c.gauge("journal_fsyncs_per_event", "fsync calls per event since the start.", func(s *snapshot) float64 { return s.journal.FsyncsPerEvent })
	c.gauge("journal_disk_life_years", "Years until the disk's endurance is used up at this rate; 0: unknown.", func(s *snapshot) float64 { return s.journal.LifeYears })
	c.gauge("backlog_events", "Events the cloud does not have yet.", func(s *snapshot) float64 { return float64(s.status.Journal.Backlog.Events) })
	c.gauge("backlog_bytes", "Their size.", func(s *snapshot) float64 { return float64(s.status.Journal.Backlog.Bytes) })
	c.gauge("backlog_oldest_age_seconds", "Age of the oldest of them.", func(s *snapshot) float64 { return float64(s.status.Journal.Backlog.OldestAgeMs) / 1000 })

	c.addUplink()

	c.gauge("boxes_joined", "1 while the box hears the other boxes of its venue.", func(s *snapshot) float64 { return truth(s.status.Boxes.State == "joined") })
	c.gauge("boxes_others", "Other boxes of the venue.", func(s *snapshot) float64 { return float64(s.status.Boxes.Others) })
	c.counter("boxes_sent_total", "Broadcasts published for the other boxes.", func(s *snapshot) float64 { return float64(s.status.Boxes.Sent) })
	c.counter("boxes_unsent_total", "Broadcasts the other boxes did not get: the box was alone, or too many waited.", func(s *snapshot) float64 { return float64(s.status.Boxes.Unsent) })
	c.counter("boxes_received_total", "Broadcasts of the other boxes.", func(s *snapshot) float64 { return float64(s.status.Boxes.Received) })
	c.counter("boxes_lost_total", "Broadcasts of the other boxes that never came.", func(s *snapshot) float64 { return float64(s.status.Boxes.Lost) })
	c.labels(prometheus.CounterValue, "boxes_refused_total", "Messages of other boxes that could not be read or were not allowed.", "reason",
		func(s *snapshot) map[string]float64 { return floats(s.refused) })

	c.gauge("disk_free_bytes", "Free space on the journal's file system.", func(s *snapshot) float64 { return float64(s.status.Disk.FreeBytes) })
	return c
}

func (c *boxCollector) gauge(name, help string, read func(*snapshot) float64) {
	c.samples = append(c.samples, sample{describe(name, help), prometheus.GaugeValue, read})
}

func (c *boxCollector) counter(name, help string, read func(*snapshot) float64) {
	c.samples = append(c.samples, sample{describe(name, help), prometheus.CounterValue, read})
}

func (c *boxCollector) labels(kind prometheus.ValueType, name, help, label string, read func(*snapshot) map[string]float64) {
	c.byLabel = append(c.byLabel, labelled{describe(name, help, label), kind, read})
}

func (c *boxCollector) addUplink() {
	c.gauge("uplink_connected", "1 while the box is connected to the broker; absent without one.", func(s *snapshot) float64 {
		if s.status.Uplink.State == "off" {
			return math.NaN()
		}
		return truth(s.status.Uplink.State == "online")
	})
	c.gauge("uplink_in_flight", "Event messages the broker has not acknowledged.", func(s *snapshot) float64 { return float64(s.status.Uplink.InFlight) })
	c.gauge("uplink_parked_events", "Events that the cloud will not take, and those that wait behind them.", func(s *snapshot) float64 { return float64(s.status.Uplink.Parked) })
	c.counter("uplink_connects_total", "Connections to the broker that came up.", func(s *snapshot) float64 { return float64(s.status.Uplink.Connects) })
	c.counter("uplink_rewinds_total", "Times the box sent again from its cursor.", func(s *snapshot) float64 { return float64(s.status.Uplink.Resent) })
	c.counter("uplink_broadcasts_total", "Broadcasts stored.", func(s *snapshot) float64 { return float64(s.status.Uplink.Received) })
	c.counter("uplink_rejected_total", "Messages from the cloud that could not be used.", func(s *snapshot) float64 { return float64(s.status.Uplink.Rejected) })
	c.counter("uplink_commands_total", "Commands of the cloud answered.", func(s *snapshot) float64 { return float64(s.status.Uplink.Commands) })
	c.counter("uplink_replayed_total", "Events sent again because a command asked for it.", func(s *snapshot) float64 { return float64(s.status.Uplink.Replayed) })
	c.gauge("uplink_paused", "1 while a command holds events back.", func(s *snapshot) float64 { return truth(s.status.Uplink.Paused != nil) })
	c.counter("uplink_overflows_total", "Times the link was cut because more came down than the box could hold.", func(s *snapshot) float64 { return float64(s.status.Uplink.Overflows) })

	c.labels(prometheus.CounterValue, "uplink_failures_total", "Attempts to connect that failed and links that were lost, by what was wrong.", "cause",
		func(s *snapshot) map[string]float64 { return floats(s.status.Uplink.Failures) })
	c.counter("uplink_sessions_lost_total", "Times a broker had forgotten the box, over restarts.", func(s *snapshot) float64 {
		if s.status.Uplink.SessionLost == nil {
			return 0
		}
		return float64(s.status.Uplink.SessionLost.Count)
	})
}

func describe(name, help string, label ...string) *prometheus.Desc {
	return prometheus.NewDesc("avoqado_edge_"+name, help, label, nil)
}

// Describe names every metric.
func (c *boxCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range c.samples {
		ch <- s.desc
	}
	for _, l := range c.byLabel {
		ch <- l.desc
	}
}

// Collect reads the box once and writes every metric.
func (c *boxCollector) Collect(ch chan<- prometheus.Metric) {
	snap := c.box.snapshot()
	for _, s := range c.samples {
		if n := s.read(snap); !math.IsNaN(n) {
			ch <- prometheus.MustNewConstMetric(s.desc, s.kind, n)
		}
	}
	for _, l := range c.byLabel {
		for value, n := range l.read(snap) {
			ch <- prometheus.MustNewConstMetric(l.desc, l.kind, n, value)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func floats[N int | int64 | uint64](m map[string]N) map[string]float64 {
	out := make(map[string]float64, len(m))
	for k, v := range m {
		out[k] = float64(v)
	}
	return out
}
