// Package devices has scenarios of device management: simulated devices, servers
// that are processes of their own, and databases that are killed while all of
// them work. What happened is judged from the devices' journals.
//
//	devices --HTTP--> server A --+
//	      \---------> server B --+--> SQLite file, or PostgreSQL
//	                kill -9 ^           ^ kill -9
package devices
