package event

import "time"

// The kinds that code names; all others stand in the table alone.
const (
	Authenticate Kind = "authenticate"
	JoinRoom     Kind = "join_room"
	LeaveRoom    Kind = "leave_room"

	AuthenticationSuccess Kind = "authentication_success"
	RoomJoined            Kind = "room_joined"
	RoomLeft              Kind = "room_left"
	RateLimitExceeded     Kind = "rate_limit_exceeded"
	Failure               Kind = "error"

	PaymentInitiated  Kind = "payment_initiated"
	PaymentProcessing Kind = "payment_processing"
	PaymentCompleted  Kind = "payment_completed"
	PaymentFailed     Kind = "payment_failed"

	OrderCreated       Kind = "order_created"
	OrderUpdated       Kind = "order_updated"
	OrderStatusChanged Kind = "order_status_changed"
	OrderDeleted       Kind = "order_deleted"

	SystemAlert         Kind = "system_alert"
	TableStatusChange   Kind = "table_status_change"
	NotificationRead    Kind = "notification_read"
	NotificationUpdated Kind = "notification:updated"
	UpdateDashboard     Kind = "updateDashboard"
	ShiftUpdate         Kind = "shiftUpdate"

	TerminalLog       Kind = "terminal:log"
	TerminalHeartbeat Kind = "terminal:heartbeat"
	TPVLog            Kind = "tpv:log"
	TPVHeartbeat      Kind = "tpv:heartbeat"

	TPVCommand              Kind = "tpv_command"
	TPVCommandCancelled     Kind = "tpv_command_cancelled"
	TPVCommandStatusChanged Kind = "tpv_command_status_changed"
	TPVCommandQueued        Kind = "tpv_command_queued"
	TPVCommandAck           Kind = "tpv_command_ack"
	TPVCommandStarted       Kind = "tpv_command_started"
	TPVCommandProgress      Kind = "tpv_command_progress"
	TPVCommandResult        Kind = "tpv_command_result"
	TPVStatusUpdate         Kind = "tpv_status_update"

	TPVMessage          Kind = "tpv_message"
	TPVMessageCancelled Kind = "tpv_message_cancelled"
	TPVMessageAck       Kind = "tpv_message_ack"
	TPVMessageResponse  Kind = "tpv_message_response"

	TerminalConfigChanged Kind = "terminal_config_changed"

	LeaseUsed Kind = "auth:lease_used"

	BridgeRequest     Kind = "terminal:payment_request"
	BridgeCancel      Kind = "terminal:payment_cancel"
	BridgeProbe       Kind = "terminal:payment_probe"
	BridgeOutcome     Kind = "terminal:payment_outcome"
	BridgeResult      Kind = "terminal:payment_result"
	BridgeDisposition Kind = "terminal:payment_cancel_disposition"
	BridgeProbeResult Kind = "terminal:payment_probe_result"
	PrintRequest      Kind = "terminal:print_receipt_request"
	PrintResult       Kind = "terminal:print_receipt_result"
)

// For how long what a client missed is worth telling it: what happened for a
// shift, what is the case or is to be read for a day.
const (
	shift = 8 * time.Hour
	day   = 24 * time.Hour
)

// Columns that several rows share.
var (
	everybody  = Roles()
	payers     = []Role{SuperAdmin, Owner, Admin, Manager, Waiter, Cashier}
	settlers   = []Role{SuperAdmin, Owner, Admin, Manager, Cashier}
	orderers   = []Role{SuperAdmin, Owner, Admin, Manager, Waiter, Kitchen}
	leaders    = []Role{SuperAdmin, Owner, Admin, Manager}
	publishers = leaders
	floor      = []Role{Waiter, Kitchen}

	venueNeed    = Need{Key: "venueId", Text: "Venue ID is required"}
	paymentNeeds = []Need{
		{Key: "paymentId", Text: "Payment ID is required"},
		{Key: "amount", Text: "Valid payment amount is required", Amount: true},
		{Key: "currency", Text: "Currency is required"},
		venueNeed,
	}
	orderNeeds = []Need{{Key: "orderId", Text: "Order ID is required"}, venueNeed}
	alertNeeds = []Need{
		{Key: "level", Text: "Alert level is required"},
		{Key: "title", Text: "Alert title is required"},
		{Key: "message", Text: "Alert message is required"},
		venueNeed,
	}
	alertLevel = Choice{
		Key: "level", Values: []string{"info", "warning", "error", "critical"},
		Text: "Invalid alert level. Must be one of: info, warning, error, critical",
	}
	logNeeds       = needs("Missing required fields in log payload", "level", "tag", "message", "terminalId", "venueId")
	logLevel       = Choice{Key: "level", Values: []string{"INFO", "WARN", "ERROR"}, Fold: true, Text: "Invalid log level:"}
	heartbeatNeeds = needs("Missing required fields in heartbeat payload", "terminalId", "venueId", "health")
	reportNeeds    = needs("Missing required fields: commandId, terminalId", "commandId", "terminalId")
	replyNeeds     = needs("Missing required fields: messageId, terminalId", "messageId", "terminalId")
	bridgeNeeds    = needs("Missing required field: requestId", "requestId")
	commandNeeds   = []Need{{Key: "terminalId", Text: "Terminal ID is required"}, {Key: "type", Text: "Command type is required"}}
	cancelNeeds    = []Need{{Key: "commandId", Text: "Command ID is required"}}
	resultStatus   = Choice{
		Key: "resultStatus", Values: []string{"SUCCESS", "PARTIAL_SUCCESS", "FAILED", "TIMEOUT", "REJECTED", "ERROR"},
		Optional: true, Text: "Invalid result status:",
	}
	messageType   = Choice{Key: "type", Values: []string{"ANNOUNCEMENT", "SURVEY", "ACTION"}, Optional: true, Text: "Invalid message type:"}
	messageAction = Choice{Key: "action", Values: []string{"ACKNOWLEDGED", "DISMISSED"}, Text: "Invalid action:"}

	paymentIdentity = []string{"paymentId", "orderId", "amount", "currency"}
	orderIdentity   = []string{"orderId", "status", "total", "items"}
	alertIdentity   = []string{"level", "title", "message", "targetRoles"}
	commandIdentity = []string{"terminalId", "type", "payload"}
	messageIdentity = []string{"title", "body", "terminalIds"}
	resultIdentity  = []string{"resultStatus", "success"}
	chargeIdentity  = []string{"terminalId", "amountCents", "tipCents"}

	paymentEcho = []string{"paymentId"}
	orderEcho   = []string{"orderId"}

	recipient    = Addressee{"recipientId", ToUser}
	custodian    = Addressee{"targetStaffId", ToUser}
	seller       = Addressee{"staffId", ToUser}
	oneTerminal  = Addressee{"terminalId", ToTerminal}
	terminalList = Addressee{"terminalIds", ToTerminals}

	// A real change of a table reaches a parser that knows the shape of
	// presence alone, and turns what is absent into "null" (contract C4).
	tableFill = []Member{Text("type", "status_changed"), Text("userId", ""), Text("role", "")}
	bulkTwins = [][2]string{ // contract C8
		{"totalTerminals", "totalTargets"},
		{"completedTerminals", "successCount"},
		{"failedTerminals", "failureCount"},
		{"pendingTerminals", "pendingCount"},
	}
	countOnly = []string{"recipientId", "notificationId", "action", "correlationId", "timestamp", "venueId"} // contract B5
)

func needs(text string, keys ...string) []Need {
	list := make([]Need, len(keys))
	for i, key := range keys {
		list[i] = Need{Key: key, Text: text}
	}
	return list
}

// catalogue is the one table. OWNER stands wherever ADMIN does (contract C14).
var catalogue = []Row{
	// The session: what one socket and the box say to each other.
	{Kind: Authenticate, Class: Telemetry, Family: Session, Volatile: true, Inbound: true, Senders: everybody},
	{Kind: JoinRoom, Class: Telemetry, Family: Session, Volatile: true, Inbound: true, Senders: everybody},
	{Kind: LeaveRoom, Class: Telemetry, Family: Session, Volatile: true, Inbound: true, Senders: everybody},
	{Kind: "joinVenueRoom", Class: Telemetry, Family: Session, Volatile: true, Inbound: true, Senders: everybody, Alias: JoinRoom, Fill: []Member{Text("roomType", "venue")}},
	{Kind: "leaveVenueRoom", Class: Telemetry, Family: Session, Volatile: true, Inbound: true, Senders: everybody, Alias: LeaveRoom, Fill: []Member{Text("roomType", "venue")}},
	{Kind: AuthenticationSuccess, Class: Telemetry, Family: Session, Volatile: true},
	{Kind: "authentication_error", Class: Telemetry, Family: Session, Volatile: true},
	{Kind: RoomJoined, Class: Telemetry, Family: Session, Volatile: true},
	{Kind: RoomLeft, Class: Telemetry, Family: Session, Volatile: true},
	{Kind: RateLimitExceeded, Class: Telemetry, Family: Session, Volatile: true},
	{Kind: "sync_status", Class: Telemetry, Family: Session, Volatile: true},
	{Kind: "sync_required", Class: Telemetry, Family: Session, Volatile: true},
	{Kind: Failure, Class: Telemetry, Family: Session, Volatile: true},

	// Payments.
	{Kind: PaymentInitiated, Class: Money, Family: Payment, Type: "initiated", Senders: payers, Broadcast: true, Needs: paymentNeeds, Subject: "paymentId", Identity: paymentIdentity, Replay: shift, Done: "Payment initiated event broadcasted", Echo: paymentEcho, Refresh: UpdateDashboard},
	{Kind: PaymentProcessing, Class: Money, Family: Payment, Type: "processing", Senders: payers, Broadcast: true, Needs: paymentNeeds, Subject: "paymentId", Identity: paymentIdentity, Replay: shift, Done: "Payment processing event broadcasted", Echo: paymentEcho, Refresh: UpdateDashboard},
	{Kind: PaymentCompleted, Class: Money, Family: Payment, Type: "completed", Senders: settlers, Broadcast: true, Needs: paymentNeeds, Subject: "paymentId", Identity: paymentIdentity, Replay: shift, Done: "Payment completed event broadcasted", Echo: paymentEcho, Refresh: UpdateDashboard},
	{Kind: PaymentFailed, Class: Money, Family: Payment, Type: "failed", Senders: settlers, Broadcast: true, Needs: paymentNeeds, Subject: "paymentId", Identity: paymentIdentity, Replay: shift, Done: "Payment failed event broadcasted", Echo: paymentEcho, Refresh: UpdateDashboard},
	{Kind: "crypto:payment_confirmed", Class: Money, Broadcast: true, Subject: "paymentId", Replay: shift, Refresh: UpdateDashboard},
	{Kind: "crypto:payment_failed", Class: Money, Broadcast: true, Subject: "paymentId", Replay: shift, Refresh: UpdateDashboard},

	// Orders, tables, shifts.
	{Kind: OrderCreated, Class: Orders, Family: Order, Type: "created", Senders: orderers, Broadcast: true, Needs: orderNeeds, Subject: "orderId", Identity: orderIdentity, AlsoRoles: floor, Replay: shift, Done: "Order created event broadcasted", Echo: orderEcho, Refresh: UpdateDashboard},
	{Kind: OrderUpdated, Class: Orders, Family: Order, Type: "updated", Senders: orderers, Broadcast: true, Needs: orderNeeds, Subject: "orderId", Identity: orderIdentity, Replay: shift, Latest: true, Done: "Order updated event broadcasted", Echo: orderEcho, Refresh: UpdateDashboard},
	{Kind: OrderStatusChanged, Class: Orders, Family: Order, Type: "status_changed", Senders: orderers, Broadcast: true, Needs: orderNeeds, Subject: "orderId", Identity: orderIdentity, Replay: shift, Latest: true, Done: "Order status_changed event broadcasted", Echo: orderEcho, Refresh: UpdateDashboard},
	{Kind: OrderDeleted, Class: Orders, Family: Order, Type: "deleted", Senders: leaders, Broadcast: true, Needs: orderNeeds, Subject: "orderId", Identity: orderIdentity, Replay: shift, Done: "Order deleted event broadcasted", Echo: orderEcho, Refresh: UpdateDashboard},
	{Kind: TableStatusChange, Class: Orders, Broadcast: true, Subject: "tableId", Replay: shift, Latest: true, Fill: tableFill},
	{Kind: "venue_update", Class: Orders, Broadcast: true},
	{Kind: "shift_opened", Class: Orders, Broadcast: true, Subject: "shiftId", Replay: day, Refresh: ShiftUpdate},
	{Kind: "shift_updated", Class: Orders, Broadcast: true, Subject: "shiftId", Replay: day, Latest: true, Refresh: ShiftUpdate},
	{Kind: "shift_closed", Class: Orders, Broadcast: true, Subject: "shiftId", Replay: day, Refresh: ShiftUpdate},
	{Kind: UpdateDashboard, Class: Service, Broadcast: true},
	{Kind: ShiftUpdate, Class: Service, Broadcast: true},

	// Words to people. What nobody was there to read is replayed.
	{Kind: SystemAlert, Class: Alerts, Family: Alert, Type: "alert", Senders: leaders, Broadcast: true, Needs: alertNeeds, Choice: alertLevel, Identity: alertIdentity, Replay: day, Done: "System alert broadcasted", Echo: []string{"level", "title"}},
	{Kind: "notification_new", Class: Alerts, Broadcast: true, Subject: "notificationId", To: recipient, Private: true, Replay: day},
	{Kind: NotificationRead, Class: Alerts, Broadcast: true, Subject: "notificationId", To: recipient, Private: true, Replay: day, Refresh: NotificationUpdated},
	{Kind: "notification_deleted", Class: Alerts, Broadcast: true, Subject: "notificationId", To: recipient, Private: true, Replay: day},
	{Kind: "notification_count_updated", Class: Alerts, Broadcast: true, Subject: "notificationId", To: recipient, Private: true, Only: countOnly, Replay: day},
	{Kind: NotificationUpdated, Class: Alerts, Broadcast: true, Subject: "id", To: recipient, Replay: day, Latest: true},
	{Kind: "sim-custody.assigned-to-promoter", Class: Alerts, Broadcast: true, To: custodian, Private: true, Replay: day},
	{Kind: "sim-custody.recollected-from-promoter", Class: Alerts, Broadcast: true, To: custodian, Private: true, Replay: day},
	{Kind: "sim-custody.rejected-acknowledged", Class: Alerts, Broadcast: true, To: custodian, Private: true, Replay: day},
	{Kind: "sale-verification.reviewed", Class: Alerts, Broadcast: true, Subject: "saleVerificationId", To: seller, Replay: day},

	// The bridge of a terminal's card reader: to one terminal, as it was sent.
	// What may move money waits for its turn at the terminal (contract D6), and
	// is not written again where it may have been read (D1).
	{Kind: BridgeRequest, Class: Money, Family: Bridge, Queued: true, Broadcast: true, Subject: "requestId", Identity: chargeIdentity, To: oneTerminal, Private: true, Bare: true},
	{Kind: BridgeCancel, Class: Money, Family: Bridge, Queued: true, Broadcast: true, Subject: "requestId", To: oneTerminal, Private: true, Bare: true},
	{Kind: BridgeProbe, Class: Money, Family: Bridge, Queued: true, Broadcast: true, Subject: "requestId", To: oneTerminal, Private: true, Bare: true},
	{Kind: "terminal:refund_request", Class: Money, Family: Bridge, Broadcast: true, Subject: "requestId", To: oneTerminal, Private: true, Bare: true},
	{Kind: PrintRequest, Class: Service, Family: Bridge, Broadcast: true, Subject: "requestId", To: oneTerminal, Private: true, Bare: true},
	{Kind: BridgeOutcome, Class: Money, Family: Bridge, Broadcast: true, Subject: "requestId", Replay: shift, Latest: true},
	{
		Kind: BridgeResult, Class: Money, Family: Bridge, Inbound: true, Terminal: true, Senders: everybody, Needs: bridgeNeeds, Subject: "requestId",
		Choice: Choice{Key: "status", Values: []string{"success", "failed", "cancelled", "timeout"}, Text: "Invalid status:"},
	},
	{
		Kind: BridgeDisposition, Class: Money, Family: Bridge, Inbound: true, Terminal: true, Senders: everybody, Needs: bridgeNeeds, Subject: "requestId",
		Choice: Choice{Key: "disposition", Values: []string{"ACTIVE", "ACCEPTED", "ALREADY_RESOLVED"}, Text: "Invalid disposition:"},
	},
	{
		Kind: BridgeProbeResult, Class: Money, Family: Bridge, Inbound: true, Terminal: true, Senders: everybody, Needs: bridgeNeeds, Subject: "requestId",
		Choice: Choice{Key: "disposition", Values: []string{"RESOLVED", "RECEIVED_CANCELLED", "ACTIVE", "NOT_FOUND"}, Text: "Invalid disposition:"},
	},
	{
		Kind: PrintResult, Class: Service, Family: Bridge, Inbound: true, Terminal: true, Senders: everybody, Needs: bridgeNeeds, Subject: "requestId",
		Choice: Choice{Key: "status", Values: []string{"success", "failed"}, Text: "Invalid status:"},
	},
	{
		Kind: "terminal:refund_result", Class: Money, Family: Bridge, Inbound: true, Terminal: true, Senders: everybody, Needs: bridgeNeeds, Subject: "requestId",
		Choice: Choice{Key: "status", Values: []string{"opened", "rejected"}, Text: "Invalid status:"},
	},
	// Only the back-end can say whether the attempt may go on, so nobody may
	// send it here: silence is what a terminal takes for no.
	{Kind: "terminal:payment_attempt_opened", Class: Money, Family: Bridge, Inbound: true, Subject: "requestId"},

	// The record of each use of a token that had ended. Nobody is let in without
	// it, so a full disk must refuse it no sooner than the payments it is for.
	{Kind: LeaseUsed, Class: Money, Inbound: true, Subject: "userId"},

	// Terminals under command. What is asked of a terminal is delivered by its
	// queue and not by the fan-out; how it goes is told to the venue.
	{Kind: TPVCommand, Class: Service, Family: Task, Queued: true, Senders: leaders, Broadcast: true, Needs: commandNeeds, Subject: "commandId", Identity: commandIdentity, Once: true, To: oneTerminal, Private: true, Twins: [][2]string{{"type", "commandType"}}, Done: "Command queued", Echo: []string{"terminalId", "type"}},
	{Kind: "tpv_command_send", Class: Service, Family: Task, Broadcast: true, Alias: TPVCommand, Subject: "commandId", To: oneTerminal, Private: true, Twins: [][2]string{{"type", "commandType"}}},
	{Kind: TPVCommandCancelled, Class: Service, Family: Task, Queued: true, Senders: leaders, Broadcast: true, Needs: cancelNeeds, Subject: "commandId", To: oneTerminal, Private: true, Done: "Command cancelled", Echo: []string{"commandId"}},
	{Kind: "tpv_command_sent", Class: Service, Broadcast: true},
	{Kind: TPVCommandStatusChanged, Class: Service, Broadcast: true, Subject: "commandId", Replay: day, Latest: true},
	{Kind: TPVCommandQueued, Class: Service, Broadcast: true, Subject: "commandId", Replay: day, Latest: true},
	{Kind: "tpv_command_response", Class: Service, Broadcast: true, Subject: "commandId", Replay: day, Latest: true},
	{Kind: "tpv_bulk_operation_progress", Class: Service, Broadcast: true, Subject: "operationId", Replay: day, Latest: true, Twins: bulkTwins},
	{Kind: TPVStatusUpdate, Class: Service, Broadcast: true, Subject: "terminalId", Replay: day, Latest: true},
	{Kind: TerminalConfigChanged, Class: Service, Broadcast: true, Subject: "terminalId", Replay: day, Latest: true},
	{Kind: TPVCommandAck, Class: Service, Family: Task, Inbound: true, Terminal: true, Senders: everybody, Needs: reportNeeds, Subject: "commandId", Once: true, Done: "ACK processed"},
	{Kind: TPVCommandStarted, Class: Service, Family: Task, Inbound: true, Terminal: true, Senders: everybody, Needs: reportNeeds, Subject: "commandId", Once: true, Done: "Execution start recorded"},
	{Kind: TPVCommandResult, Class: Service, Family: Task, Inbound: true, Terminal: true, Senders: everybody, Needs: reportNeeds, Choice: resultStatus, Subject: "commandId", Identity: resultIdentity, Once: true, Done: "Result processed"},
	{Kind: TPVCommandProgress, Class: Telemetry, Volatile: true, Terminal: true, Senders: everybody, Needs: reportNeeds, Subject: "commandId", Done: "Progress processed"},

	// Messages to the people at terminals.
	{Kind: TPVMessage, Class: Alerts, Family: Task, Senders: leaders, Broadcast: true, Choice: messageType, Subject: "messageId", Identity: messageIdentity, Once: true, To: terminalList, Replay: day, Done: "Message sent", Echo: []string{"title"}},
	{Kind: TPVMessageCancelled, Class: Alerts, Family: Task, Senders: leaders, Broadcast: true, Needs: []Need{{Key: "messageId", Text: "Message ID is required"}}, Subject: "messageId", To: terminalList, Replay: day, Done: "Message cancelled", Echo: []string{"messageId"}},
	{Kind: TPVMessageAck, Class: Alerts, Family: Task, Inbound: true, Terminal: true, Senders: everybody, Needs: replyNeeds, Choice: messageAction, Subject: "messageId", Done: "Message ACK processed"},
	{Kind: TPVMessageResponse, Class: Alerts, Family: Task, Inbound: true, Terminal: true, Senders: everybody, Needs: replyNeeds, Subject: "messageId", Done: "Survey response processed"},

	// Menu, stock, hardware, billing.
	{Kind: "menu_updated", Class: Service, Broadcast: true, Replay: day, Latest: true},
	{Kind: "menu_item_created", Class: Service, Broadcast: true, Subject: "itemId", Replay: day, Latest: true},
	{Kind: "menu_item_updated", Class: Service, Broadcast: true, Subject: "itemId", Replay: day, Latest: true},
	{Kind: "menu_item_deleted", Class: Service, Broadcast: true, Subject: "itemId", Replay: day, Latest: true},
	{Kind: "menu_item_availability_changed", Class: Service, Broadcast: true, Subject: "itemId", Replay: day, Latest: true},
	{Kind: "menu_category_updated", Class: Service, Broadcast: true, Subject: "categoryId", Replay: day, Latest: true},
	{Kind: "menu_category_deleted", Class: Service, Broadcast: true, Subject: "categoryId", Replay: day, Latest: true},
	{Kind: "product_price_changed", Class: Service, Broadcast: true, Subject: "productId", Replay: day, Latest: true, Fill: []Member{{Key: "priceChangePercent", Value: []byte("0")}}},
	{Kind: "inventory_low_stock", Class: Service, Broadcast: true, Subject: "rawMaterialId", Replay: day, Latest: true},
	{Kind: "inventory_out_of_stock", Class: Service, Broadcast: true, Subject: "rawMaterialId", Replay: day, Latest: true},
	{Kind: "inventory_updated", Class: Service, Broadcast: true, Subject: "rawMaterialId", Replay: day, Latest: true},
	{Kind: "printer_status", Class: Service, Broadcast: true, Subject: "terminalId", Replay: day, Latest: true, Twins: [][2]string{{"terminalId", "printerId"}}},
	{Kind: "card_reader_status", Class: Service, Broadcast: true, Subject: "terminalId", Replay: day, Latest: true},
	{Kind: "peripheral_error", Class: Service, Broadcast: true, Subject: "terminalId", Replay: shift},
	{Kind: "print_job_synced", Class: Service, Broadcast: true},
	{Kind: "print_job_failed", Class: Service, Broadcast: true, Replay: shift},
	{Kind: "subscription.activated", Class: Service, Broadcast: true, Subject: "subscriptionId", Replay: day, Latest: true},
	{Kind: "subscription.deactivated", Class: Service, Broadcast: true, Subject: "subscriptionId", Replay: day, Latest: true},
	{Kind: "tokens.purchased", Class: Service, Broadcast: true, Subject: "invoiceId", Replay: day, Latest: true},
	{Kind: "tokens.purchase_failed", Class: Service, Broadcast: true, Subject: "invoiceId", Replay: day, Latest: true},

	// Telemetry: the only side road. The first two are what terminals send,
	// the other two what the venue hears of it (contract §3.10).
	{Kind: TPVLog, Class: Telemetry, Volatile: true, Inbound: true, Terminal: true, Senders: everybody, Needs: logNeeds, Choice: logLevel},
	{Kind: TPVHeartbeat, Class: Telemetry, Volatile: true, Inbound: true, Terminal: true, Senders: everybody, Needs: heartbeatNeeds},
	{Kind: TerminalLog, Class: Telemetry, Volatile: true},
	{Kind: TerminalHeartbeat, Class: Telemetry, Volatile: true},
}

var byKind = func() map[Kind]*Row {
	m := make(map[Kind]*Row, len(catalogue))
	for i := range catalogue {
		m[catalogue[i].Kind] = &catalogue[i]
	}
	return m
}()
