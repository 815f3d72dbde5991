package syncml

// Alert codes (OMA-TS-DM_RepPro-V1_2_1 section 5.1.1).
const (
	AlertDisplay         = 1100
	AlertConfirm         = 1101
	AlertInput           = 1102
	AlertChoice          = 1103
	AlertMultipleChoice  = 1104
	AlertServerInitiated = 1200
	AlertClientInitiated = 1201
	AlertNextMessage     = 1222
	AlertSessionAbort    = 1223
	AlertClientEvent     = 1224
	AlertNoEndOfData     = 1225
	AlertGeneric         = 1226
)

// Status codes (OMA-TS-DM_RepPro-V1_2_1 section 10).
const (
	StatusOK                  = 200
	StatusAccepted            = 202
	StatusAuthenticated       = 212
	StatusChunkAccepted       = 213
	StatusCancelled           = 214
	StatusNotExecuted         = 215
	StatusRolledBack          = 216
	StatusNotModified         = 304
	StatusBadRequest          = 400
	StatusInvalidCredentials  = 401
	StatusForbidden           = 403
	StatusNotFound            = 404
	StatusNotAllowed          = 405
	StatusNotSupported        = 406
	StatusMissingCredentials  = 407
	StatusConflict            = 409
	StatusGone                = 410
	StatusIncompleteCommand   = 412
	StatusEntityTooLarge      = 413
	StatusURITooLong          = 414
	StatusUnsupportedType     = 415
	StatusSizeTooBig          = 416
	StatusRetryLater          = 417
	StatusAlreadyExists       = 418
	StatusDeviceFull          = 420
	StatusSizeMismatch        = 424
	StatusPermissionDenied    = 425
	StatusCommandFailed       = 500
	StatusNotImplemented      = 501
	StatusAtomicFailed        = 507
	StatusRollBackFailed      = 516
	StatusAtomicResponseLarge = 517
)
