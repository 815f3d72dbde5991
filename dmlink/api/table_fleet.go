package api

// Operations on gateways, and on devices as gateways know them.
var (
	GatewayList     = row[None, Page[Gateway]]("gateway.list", "GET /v1/gateways", everybody, Refusals, "List gateways and how they are")
	GatewayShow     = row[OneGateway, Gateway]("gateway.show", "GET /v1/gateways/{gateway}", everybody, Refusals, "Show a gateway with the versions that it has")
	GatewayAdd      = row[AddGateway, Gateway]("gateway.add", "POST /v1/gateways", server, Changes, "Manage the gateway whose key has a fingerprint")
	GatewayRemove   = row[ChangeGateway, Done]("gateway.remove", "DELETE /v1/gateways/{gateway}", server, Changes, "Manage a gateway no more")
	GatewayPush     = row[ChangeGateway, Done]("gateway.push", "POST /v1/gateways/{gateway}/push", server, Changes, "Bring a gateway to what was committed now, whatever it refused")
	GatewayDrain    = row[DrainGateway, Drained]("gateway.drain", "PUT /v1/gateways/{gateway}/drain", server, Changes, "Send the sessions of a gateway to another one")
	GatewayUndrain  = row[ChangeGateway, Drained]("gateway.undrain", "DELETE /v1/gateways/{gateway}/drain", server, Changes, "Let a gateway take sessions again")
	GatewayEpoch    = row[NewEpoch, Epoch]("gateway.epoch", "POST /v1/gateways-epoch", server, Changes, "Begin a new epoch: gateways take what is in a restored database, whatever they have")
	GatewaySessions = row[ListSessions, Page[Session]]("gateway.sessions", "GET /v1/sessions", deviceHelp|server|deviceSafe, Refusals, "List sessions over all gateways")
	GatewayEvents   = row[ListEvents, Page[Event]]("gateway.events", "GET /v1/events", deviceHelp|server|deviceSafe, Refusals, "List what gateways told, the newest first")
	GatewayExport   = row[None, GatewayContent]("gateway.config.export", "GET /v1/gateway-configuration", server|deviceSafe, Refusals, "Show groups, access lists, pools and settings of all gateways")
	GatewayImport   = row[SetContent, Done]("gateway.config.import", "PUT /v1/gateway-configuration", server, Changes, "Replace groups, access lists, pools and settings of all gateways").large()

	DeviceWhere      = row[OneDevice, Page[Session]]("device.where", "GET /v1/devices/{device}/sessions", insiders|server, Refusals, "Show at which gateways a device is")
	DeviceDisconnect = row[EndSessions, Ended]("device.disconnect", "DELETE /v1/devices/{device}/sessions", deviceAny, Changes, "End the sessions of a device; it may come again")
	DeviceAccess     = row[OneDevice, Access]("device.access", "GET /v1/devices/{device}/access", insiders|server, Refusals, "Show what gateways know of a device: group, quarantine, addresses")
	DeviceAuthorise  = row[SetAccess, Access]("device.authorise", "PUT /v1/devices/{device}/access", deviceSafe, Changes, "Set the group of a device, put it into quarantine or release it, bar it")
)
