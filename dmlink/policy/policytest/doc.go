// Package policytest has a policy.Store in memory, and the suite that every
// policy.Store passes.
package policytest
