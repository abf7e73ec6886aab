export default {
  skip: "Skip to content", language: "Language", s: "{n} s", min: "{n} min", h: "{n} h", days: "{n} days", days_one: "{n} day",
  ago: "{span} ago", since: "since {time}", for: "{span}", never: "never", yes: "yes", no: "no", close: "Close",

  // login
  login: "Log in", login_title: "Box of {venue}", login_code: "Code", login_token: "Token",
  code_label: "6-digit code", code_help: "On the box, run {command}: it is good for 10 minutes.",
  token_label: "Access token", token_help: "Of a manager, an administrator or the owner. Logging out ends it at this box, for the app it comes from, too.",
  logout: "Log out", login_wrong: "Wrong, or no longer valid.", login_slow: "Too many tries. Wait a moment.",
  login_role: "Your role ({role}) may not see this page. Ask a manager to log in.",
  login_no_box: "The box does not answer. Are you on the restaurant's network?",

  // places
  nav: "Sections", status: "Status", terminals: "Terminals", events: "Events", alerts: "Alerts", box: "Box",

  // hero
  hero_ok: "All is well", hero_ok_sub: "Payments and orders reach the back-end.", hero_ok_sub_server: "Payments and orders reach the server in the cloud.",
  hero_off: "The box works, without a cloud", hero_off_sub: "No way to the back-end is configured. In the venue all works.",
  hero_starting: "Connecting to the cloud…", hero_starting_sub: "In the venue all works already.",
  hero_draining: "Catching up", hero_draining_sub: "{n} events still have to reach the back-end. Nothing to do.", hero_draining_sub_one: "{n} event still has to reach the back-end. Nothing to do.",
  hero_lan: "No local network since {time}", hero_internet: "No internet since {time}", hero_broker: "No connection to the cloud since {time}",
  hero_backend: "The back-end is silent since {time}",
  hero_safe: "The venue goes on. {n} events are safe on this box and are sent by themselves once it is back.",
  hero_safe_one: "The venue goes on. {n} event is safe on this box and is sent by itself once it is back.",
  hero_safe_zero: "The venue goes on. What is sold is kept on this box and sent by itself once it is back.",
  hero_fault: "The box cannot store events", hero_fault_sub: "Call support now and leave the box on.",
  hero_room: "The box refuses events: it has no room left",
  hero_parked: "The back-end will not take {n} events", hero_parked_one: "The back-end will not take {n} event", hero_parked_sub: "All else arrives. Tell support: a technician decides on the box.",
  hero_paused: "Sending is paused since {time}", hero_paused_sub: "The back-end asked for it. {n} events are safe on this box.", hero_paused_sub_one: "The back-end asked for it. {n} event is safe on this box.",
  hero_gone: "The box does not answer since {time}", hero_gone_sub: "This screen is out of date. Check the power of the box and the wifi of this device.",
  stale: "The last that the box said, at {time}:", live: "Live", not_live: "Reconnecting…",

  // way
  way: "Way to the back-end", lan: "Local network", internet: "Internet", broker: "Cloud", backend: "Back-end",
  ok: "good", down: "down", unknown: "not known", off: "not used",
  do: "What to do", error: "What the box saw",

  // causes: what it is | what to do
  c_no_lan: "The box has no network.|Check the network cable of the box, and the router.",
  c_no_route: "The router leads nowhere.|Switch the router off and on.",
  c_no_internet: "The router does not reach the internet.|Switch the router off and on; if that does not help, call the internet provider.",
  c_dns: "Internet names are not found (DNS).|Switch the router off and on; if that does not help, call the provider.",
  c_dns_lie: "The network gives false addresses.|Tell whoever looks after the network.",
  c_captive_portal: "The network wants a login on a web page.|Log in there once, or use a network without it.",
  c_proxy: "The proxy lets nothing through.|Tell whoever looks after the network.",
  c_broker_down: "The server in the cloud is not there.|Nothing to do in the venue: tell support.",
  c_no_answer: "The server in the cloud does not answer.|Nothing to do in the venue: tell support.",
  c_timeout: "The connection stopped answering.|Wait some minutes; then check the router.",
  c_lost: "The connection was lost.|Wait a moment: the box is trying again.",
  c_tls: "The secure connection fails.|Tell support.", c_clock: "The clock of the box is wrong.|Tell support.",
  c_certificate: "The certificate of the box is not valid.|Tell support.", c_credentials: "The cloud does not let this box in.|Tell support.",
  c_client_id_takeover: "Another box uses the same name.|Tell support: there are two of this box.",
  c_silent: "The back-end confirms nothing of what it gets.|Nothing to do in the venue: tell support.",
  c_interrupted: "An outage for practice.|Nothing: it ends by itself.",
  c_backend: "The back-end confirmed nothing.|Nothing to do in the venue.", c_power: "The box had no power.|Give it a power supply that stays on.",
  c_crash: "The program fell and came back.|Tell support.", c_stopped: "The box was switched off in order.|Nothing.",
  c_other: "The connection failed.|Tell support.",

  // tiles
  waiting: "Waiting", waiting_none: "Nothing: the back-end has everything", waiting_none_server: "Nothing: the server has everything", waiting_parked: "but for {n} that the back-end will not take", waiting_oldest: "the oldest, {ago}", events_n: "{n} events", events_n_one: "{n} event",
  terminals_online: "Terminals", online_of: "{online} of {all} connected", nobody_yet: "none within a week",
  disk: "Disk", disk_free: "{free} free", disk_of: "of {total}", last_event: "Last event", no_events: "No events yet",

  // notices
  look: "Needs a look",
  n_parked: "{n} events that the back-end will not take wait for a decision.", n_parked_one: "{n} event that the back-end will not take waits for a decision.",
  n_level: "Room for events is short: {reason}", n_quarantine: "{n} damaged files were set aside: call support.", n_quarantine_one: "{n} damaged file was set aside: call support.",
  n_disk: "Only {free} are free on the disk.", n_stuck: "The disk does not finish a write.", n_clock: "The clock of the box is not synchronised.",
  n_boxes: "The other boxes of the venue are not heard.", n_discovery: "Terminals do not find the box by themselves (mDNS).",
  n_warning: "The connection works and will not come back once it is lost: {error}", n_rejected: "A message of the back-end could not be used.",
  n_flash: "At this rate the disk lasts {years} more years.",

  // charts
  backlog: "Waiting for the back-end", range: "Time", r1: "1 hour", r24: "24 hours", r168: "7 days",
  chart_max: "Most: {n} at {time}.", chart_flat: "Nothing had to wait in this time.", chart_shade: "Red: no connection.", chart_none: "There are no figures of this time yet.",
  outages: "Outages of the last 7 days", report: "report", outages_none: "No outage.", outage_now: "goes on", outage_line: "{from}, took {span}", outage_open: "since {from}, for {span}",
  held: "{n} events kept", held_one: "{n} event kept", legend_up: "connected", legend_down: "not connected", legend_none: "box off or no figures", total_down: "{span} without a connection in all",
  at_point: "{time}: {n}",

  // terminals
  no_terminals: "No terminal has connected within a week. They connect to this box by themselves when they are on the same network.",
  online: "connected", offline: "not connected", t_seen: "Sign of life", t_missed: "none since the box started", t_address: "Address", t_version: "App", t_battery: "Battery", t_waiting: "Waiting", t_waiting_none: "nothing", charging: "charging", t_who: "User", t_health: "Health",

  // events
  filter: "Filter", filter_help: "name, terminal, person, text…", kind: "Kind", all: "All", pause: "Pause", resume: "Go on", paused_n: "Paused: {n} new", paused_n_one: "Paused: {n} new", showing: "{n} events shown", showing_one: "{n} event shown",
  money: "Money", orders: "Orders", alerts_class: "Alerts", service: "Service", telemetry: "Signals",
  nothing_matches: "Nothing matches the filter.", in_cloud: "at the back-end", at_server: "at the server", moved: "sent again from another place", in_box: "safe on the box", path: "Path of this event",
  p_accepted: "Accepted", p_stored: "Stored on disk", p_shown: "Shown in the venue", p_cloud: "Back-end",
  p_from: "from {who}", p_at: "at terminal {terminal}", p_from_cloud: "came from the back-end", p_seq: "as number {seq}", p_everyone: "to the whole venue", p_to: "to {who}",
  p_confirmed: "confirmed", p_confirmed_server: "the server in the cloud has it; the back-end is not asked", p_waiting: "waits; {n} before it", p_waiting_first: "is next", p_parked: "will not take it: {reason}", p_behind: "waits for a decision about {seq}", p_dropped: "not taken, and given up by a technician", p_moved: "not taken from here; sent again from another place", p_origin: "it came from there", p_off: "no cloud is configured",
  payload: "Content", details: "Details", expires: "Expires",
  parked: "Events that the back-end will not take", parked_help: "A technician decides on the box: {command}", reason: "Reason", parked_since: "set aside {ago}",

  not_taken: "not taken by the back-end",

  // alerts
  send_alert: "Send an alert to the venue", level: "Urgency", l_info: "Information", l_warning: "Attention", l_error: "Problem", l_critical: "Urgent",
  title: "Title", message: "Message", to_whom: "To whom (none marked: the whole venue)", to_all: "The whole venue", expires_in: "Show for", x_0: "a day", x_15: "15 minutes", x_60: "1 hour", x_480: "8 hours",
  send: "Send alert", sent: "Sent: it is stored and reaches whoever is connected; the others see it when they come back.", not_sent: "Not sent: {why}", required: "Write a title and a message.", recent_alerts: "Recent alerts", no_alerts: "No recent alert.",
  role_SUPERADMIN: "Superadmin", role_OWNER: "Owner", role_ADMIN: "Administration", role_MANAGER: "Managers", role_WAITER: "Waiters", role_CASHIER: "Cashiers", role_KITCHEN: "Kitchen", role_HOST: "Hosts", role_VIEWER: "Viewers",

  // box
  about: "This box", b_name: "Name", b_venue: "Venue", b_version: "Version", b_uptime: "Up for", b_address: "Address", b_mdns: "Name on the network (mDNS)", b_clock: "Clock", clock_ok: "synchronised", clock_bad: "not synchronised",
  storage: "Disk and wear", b_free: "Free", b_journal: "Journal of events", b_clients: "Connections", b_journal_v: "{size} in {n} files", b_journal_v_one: "{size} in {n} file", b_stored: "Events stored through", b_synced: "The back-end has them through", b_room: "Room for events", room_ok: "enough", b_written: "Written since the start", b_life: "Expected life of the disk", life_unknown: "not known yet (needs storage.endurance and an hour)", life_years: "{n} years at this rate", b_quarantine: "Damaged files",
  cloud: "Cloud", b_broker: "Server", b_state: "State", b_confirm: "Confirmed by", confirm_backend: "the back-end", confirm_broker: "the server", b_connects: "Connections since the start", b_failures: "Failures by cause", b_config: "Configuration of the cloud", boxes: "Other boxes",
  s_online: "connected", s_offline: "not connected", s_connecting: "connecting", s_off: "off", s_starting: "starting", s_failing: "failing", s_joined: "joined", s_alone: "alone",
  tech: "For the technician", docs: "Description of events and messages", problems: "What the box says of itself", no_problems: "Nothing to report.", pairing: "Pair a terminal", pairing_help: "Scan this code with the terminal: it says where the box is and how to know it.",

  // events by name
  e_payment_initiated: "Payment begun", e_payment_processing: "Payment in progress", e_payment_completed: "Payment done", e_payment_failed: "Payment failed", e_order_created: "New order", e_order_updated: "Order changed", e_order_status_changed: "Order: new state", e_order_deleted: "Order deleted", e_table_status_change: "Table: new state", e_venue_update: "Venue updated", e_shift_opened: "Shift opened", e_shift_updated: "Shift changed", e_shift_closed: "Shift closed", e_system_alert: "Alert", e_notification_new: "Notification", e_tpv_command: "Command to a terminal", e_tpv_command_status_changed: "Command to a terminal: state", e_tpv_message: "Message to terminals", e_tpv_message_ack: "Message read", e_menu_updated: "Menu updated", e_inventory_low_stock: "Low stock", e_inventory_out_of_stock: "Out of stock", e_printer_status: "Printer", "e_terminal:payment_request": "Payment asked of a terminal", "e_terminal:payment_result": "Result of a payment", "e_terminal:payment_outcome": "Payment over",
};
