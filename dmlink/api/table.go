package api

import "github.com/roamgate/roamgate/dmlink/access"

// Who may, as the columns of the table below.
var (
	everybody = access.Everybody
	// insiders may see what devices say of themselves and of their users.
	insiders = access.SetOf(access.Device, access.Security, access.HelpDesk)
	// keepers look after who may what.
	keepers    = access.SetOf(access.Server, access.Security)
	overseers  = access.SetOf(access.Server, access.Security, access.Auditor)
	device     = access.SetOf(access.Device)
	deviceHelp = access.SetOf(access.Device, access.HelpDesk)
	deviceSafe = access.SetOf(access.Device, access.Security)
	deviceAny  = insiders
	server     = access.SetOf(access.Server)
)

// The table of operations: the API, its OpenAPI document, the commands and who
// may what all come from it.
//
// To add an operation: its types with tags for huma, a row here, a handler bound
// in New (New fails for a row without one), and a command of that name in
// gatewayd (its test fails without one). In of a row that is recorded as Changes
// is a Changer.
var (
	ServerShow = row[None, Server]("server.show", "GET /v1/server", everybody, Refusals, "Show the version, instance and health of the server")

	RoleWhoami      = row[None, Self]("role.whoami", "GET /v1/self", everybody, Refusals, "Show who you are to the server, and what you may")
	RoleOperations  = row[None, Page[Permission]]("role.operations", "GET /v1/operations", everybody, Refusals, "Show the operations and who may what")
	RoleList        = row[ListGrants, Page[Grant]]("role.list", "GET /v1/roles", overseers, Refusals, "List who has which role")
	RoleGrant       = row[PutGrant, Grant]("role.grant", "PUT /v1/roles/{subject}/{role}", server, Changes, "Give a role to somebody")
	RoleRevoke      = row[TakeGrant, Done]("role.revoke", "DELETE /v1/roles/{subject}/{role}", keepers, Changes, "Take a role from somebody")
	RoleTokenList   = row[Paging, Page[Token]]("role.token.list", "GET /v1/tokens", overseers, Refusals, "List tokens, without their secrets")
	RoleTokenCreate = row[CreateToken, CreatedToken]("role.token.create", "POST /v1/tokens", server, Changes, "Make a token; it is shown this once")
	RoleTokenRevoke = row[RevokeToken, Token]("role.token.revoke", "POST /v1/tokens/{name}/revoke", keepers, Changes, "Revoke a token")

	AuditList   = row[ListAudit, Page[Entry]]("audit.list", "GET /v1/audit", overseers, Refusals, "Read the audit log")
	AuditVerify = row[VerifyAudit, Verified]("audit.verify", "GET /v1/audit/verify", overseers, Refusals, "Prove that nobody changed the audit log")

	DeviceList     = row[ListDevices, Page[Device]]("device.list", "GET /v1/devices", everybody, Refusals, "List devices")
	DeviceShow     = row[OneDevice, DeviceDetail]("device.show", "GET /v1/devices/{device}", everybody, Refusals, "Show a device")
	DeviceCommands = row[ListCommands, Page[Command]]("device.commands", "GET /v1/devices/{device}/commands", everybody, Refusals, "List what was asked of a device, the newest first")
	DeviceAlerts   = row[OneDevice, Page[Alert]]("device.alerts", "GET /v1/devices/{device}/alerts", insiders, Refusals, "List what a device told by itself, the newest first")
	DeviceMessages = row[ListMessages, Page[Message]]("device.messages", "GET /v1/devices/{device}/messages", device, Looks, "Read the log of messages of a device, the newest first")
	DeviceGroups   = row[SetGroups, Device]("device.groups", "PUT /v1/devices/{device}/groups", device, Changes, "Replace the groups of a device")
	DeviceUnit     = row[SetUnit, Device]("device.unit", "PUT /v1/devices/{device}/unit", device, Changes, "Move a device in the tree of units")

	ScheduleShow   = row[OneDevice, Schedule]("schedule.show", "GET /v1/devices/{device}/schedule", everybody, Refusals, "Show when a device comes by itself")
	ScheduleSet    = row[SetSchedule, Schedule]("schedule.set", "PUT /v1/schedules", device, Changes, "Set when devices of a group come by themselves")
	ScheduleDelete = row[DeleteSchedule, Done]("schedule.delete", "DELETE /v1/schedules", device, Changes, "Delete the schedule of a group")

	TaskTypes    = row[None, Page[TaskType]]("task.types", "GET /v1/task-types", everybody, Refusals, "List the types of tasks and their parameters")
	TaskList     = row[Paging, Page[Task]]("task.list", "GET /v1/tasks", everybody, Refusals, "List tasks, the newest first")
	TaskShow     = row[OneTask, Task]("task.show", "GET /v1/tasks/{task}", everybody, Refusals, "Show a task")
	TaskCommands = row[TaskCommandsOf, Page[Command]]("task.commands", "GET /v1/tasks/{task}/commands", everybody, Refusals, "List how far a task is on each device")
	TaskAnswer   = row[OneCommand, Answer]("task.answer", "GET /v1/commands/{command}/answer", insiders, Refusals, "Show what a device answered to a command")
	TaskCancel   = row[CancelTask, Cancelled]("task.cancel", "POST /v1/tasks/{task}/cancel", deviceSafe, Changes, "Cancel what still waits of a task")
	TaskWipes    = row[ListWipes, Page[Wipe]]("task.wipes", "GET /v1/wipes", everybody, Refusals, "List wipes and how far they are")

	// Each type of task is an operation of its own.
	taskPlace = map[string]Row[PlaceTask, Placed]{
		"activate":   place("activate", deviceSafe, "Make a deactivated device usable again"),
		"add":        place("add", device, "Add a node"),
		"copy":       place("copy", device, "Copy a node to another place"),
		"deactivate": place("deactivate", deviceSafe, "Make a device useless until it is activated"),
		"delete":     place("delete", device, "Delete a node"),
		"exec":       place("exec", device, "Execute a node, once"),
		"lock":       place("lock", deviceAny, "Lock the screen of a device"),
		"message":    place("message", deviceHelp, "Show users a text"),
		"query":      place("query", deviceHelp, "Read nodes of the management tree"),
		"replace":    place("replace", device, "Replace the value of a node"),
		"wipe":       place("wipe", deviceSafe, "Erase a device, close its account and revoke its certificate"),
	}

	PolicyShow     = row[OnePolicy, Policy]("policy.show", "GET /v1/policy", deviceSafe, Looks, "Show the policies, or a former version of them")
	PolicyVersions = row[ListPolicies, Page[PolicyVersion]]("policy.history", "GET /v1/policy/versions", overseers|device, Refusals, "List the versions of the policies, the newest first")
	PolicyStatus   = row[None, PolicyBehind]("policy.status", "GET /v1/policy/status", everybody, Refusals, "Show how many devices' commands are still to be computed")
	PolicyPlan     = row[PlanPolicy, PolicyPlanned]("policy.plan", "POST /v1/policy/plan", device, Refusals, "Say what a document would change, and for whom").large()
	PolicyApply    = row[ApplyPolicy, PolicyVersion]("policy.apply", "PUT /v1/policy", device, Changes, "Make a document the newest version of the policies").large()
	PolicyExplain  = row[OneDevice, Explanation]("policy.explain", "GET /v1/devices/{device}/policy", insiders, Refusals, "Explain which policies a device has, and why")

	InventoryShow    = row[OneDevice, Inventory]("inventory.show", "GET /v1/devices/{device}/inventory", insiders, Refusals, "Show what a device said of itself")
	InventoryHistory = row[ListChanges, Page[InventoryChange]]("inventory.history", "GET /v1/devices/{device}/inventory/history", insiders, Refusals, "List what changed on a device, the newest first")
)

func place(name string, may access.Set, summary string) Row[PlaceTask, Placed] {
	return row[PlaceTask, Placed]("task.place."+name, "POST /v1/tasks/"+name, may, Changes, summary)
}

// TaskPlace is the row of a type of tasks.
func TaskPlace(name string) (Row[PlaceTask, Placed], bool) {
	r, ok := taskPlace[name]
	return r, ok
}
