// Package standard makes the settings for what administrators usually want:
// proxies, company networks, connections, certificates, passwords, no camera.
// Each is a typed builder, which knows the nodes of each platform and refuses
// what that platform has no documented node for (ErrNoNode).
//
// Nodes of Windows 10 and 11 are those of its configuration service providers
// (learn.microsoft.com/windows/client-management/mdm), those of Windows Mobile
// 6.1 of its own (learn.microsoft.com/previous-versions, bb737266 and around;
// for passwords the registry values of [MS-ASPROV] section 2.2.2.24.2).
package standard
