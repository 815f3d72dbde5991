#Requires -Version 5.1
#Requires -RunAsAdministrator
# Makes this computer the VPN client phone-1: imports its certificate and
# adds the profile Roamgate through the MDM bridge. Running it again replaces
# the profile. Needs phone-1.vpnv2.xml and phone-1.p12 beside it.
[CmdletBinding()]
param(
    # Password of phone-1.p12; it is asked for when it is missing.
    [securestring] $Password
)
$ErrorActionPreference = 'Stop'
$profileName = 'Roamgate'
$xmlFile = Join-Path $PSScriptRoot 'phone-1.vpnv2.xml'
$p12File = Join-Path $PSScriptRoot 'phone-1.p12'
$roots = @('MIIBYTCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAXMRUwEwYDVQQDEwxUZXN0IFJvb3QgQ0EwIBcNMjYwMTAxMDAwMDAwWhgPMjEyNjAxMDEwMDAwMDBaMBcxFTATBgNVBAMTDFRlc3QgUm9vdCBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDW3o40TL2Tbf6Yu+O6bjemnHaHufEheOU1u4+0dPT03Hhi6owOFelnokmiCTm6/4sITrZQKJXiDgNjiqQb5JZmjQjBAMA4GA1UdDwEB/wQEAwIBBjAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBQb51XZRG91ERcipPl6mYUQJbCpFjAKBggqhkjOPQQDAgNIADBFAiAuOWXugOdxu/wAJZuc61GRGgK3TPju0g0r8nQQDlmGiQIhAPVPn5TYbg/gVOgDqX5TKoIMjpKL6Uae052epTkpvLX7')
$intermediates = @('MIIBhzCCAS6gAwIBAgIBAjAKBggqhkjOPQQDAjAXMRUwEwYDVQQDEwxUZXN0IFJvb3QgQ0EwIBcNMjYwMTAxMDAwMDAwWhgPMjEyNjAxMDEwMDAwMDBaMBoxGDAWBgNVBAMTD1Rlc3QgSXNzdWluZyBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKkU3os/yZY3CeomBHITCEMIVxWTAqLekdUxpsR+9mTcZbptc9BmpE3Euu8m5UQ/0yLfiypncsR2VbcStFv7sBmjZjBkMA4GA1UdDwEB/wQEAwIBBjASBgNVHRMBAf8ECDAGAQH/AgEAMB0GA1UdDgQWBBT6zFrLZDZ3YOs5F2c9kvsQZ3CE1DAfBgNVHSMEGDAWgBQb51XZRG91ERcipPl6mYUQJbCpFjAKBggqhkjOPQQDAgNHADBEAiBXenPS5BAxcLsD2Wg4sACqW7wOxwCyM/Ga1t8qhPl0AAIgYAl++rByb6C/6sDm/cnYcGIBk0kHqPNtoqIWWItcI3o=')

function Add-Authority([string] $Store, [string] $Certificate) {
    $x509 = New-Object Security.Cryptography.X509Certificates.X509Certificate2 -ArgumentList (,[Convert]::FromBase64String($Certificate))
    $target = New-Object Security.Cryptography.X509Certificates.X509Store -ArgumentList $Store, 'LocalMachine'
    $target.Open('ReadWrite')
    try { $target.Add($x509) } finally { $target.Close() }
}
$roots | ForEach-Object { Add-Authority 'Root' $_ }
$intermediates | ForEach-Object { Add-Authority 'CA' $_ }

if (-not $Password) { $Password = Read-Host -AsSecureString ('Password of ' + (Split-Path -Leaf $p12File)) }
$imported = Import-PfxCertificate -FilePath $p12File -CertStoreLocation 'Cert:\LocalMachine\My' -Password $Password
Write-Host ('Imported ' + ($imported | Select-Object -First 1).Subject)

# The MDM bridge wants the document escaped, and an escaped name.
$document = [Security.SecurityElement]::Escape((Get-Content -Raw -Path $xmlFile))
$instanceId = [Uri]::EscapeDataString($profileName)
$namespace = 'root\cimv2\mdm\dmmap'
$class = 'MDM_VPNv2_01'
$session = New-CimSession
$options = New-Object Microsoft.Management.Infrastructure.Options.CimOperationOptions

# The profile is the logged-on user's: the bridge is told whose.
$userName = (Get-CimInstance Win32_ComputerSystem).UserName
if (-not $userName) { throw 'No user is logged on at the console.' }
$sid = (New-Object Security.Principal.NTAccount($userName)).Translate([Security.Principal.SecurityIdentifier]).Value
$options.SetCustomOption('PolicyPlatformContext_PrincipalContext_Type', 'PolicyPlatform_UserContext', $false)
$options.SetCustomOption('PolicyPlatformContext_PrincipalContext_Id', $sid, $false)
foreach ($old in $session.EnumerateInstances($namespace, $class, $options)) {
    if ($old.InstanceID -eq $instanceId) { $session.DeleteInstance($namespace, $old, $options) }
}
$instance = New-Object Microsoft.Management.Infrastructure.CimInstance $class, $namespace
foreach ($property in @(
        @('ParentID', './Vendor/MSFT/VPNv2', 'Key'),
        @('InstanceID', $instanceId, 'Key'),
        @('ProfileXML', $document, 'Property'))) {
    $instance.CimInstanceProperties.Add([Microsoft.Management.Infrastructure.CimProperty]::Create($property[0], $property[1], 'String', $property[2]))
}
[void] $session.CreateInstance($namespace, $instance, $options)

# Some versions ignore the suite of the document. An administrator who isn't the
# logged-on user doesn't see that user's connection.
try {
    Set-VpnConnectionIPsecConfiguration -ConnectionName $profileName -AuthenticationTransformConstants GCMAES128 -CipherTransformConstants GCMAES128 -EncryptionMethod AES256 -IntegrityCheckMethod SHA384 -DHGroup ECP384 -PfsGroup ECP256 -Force
} catch {
    Write-Warning "The suite of the profile was not set again: $_"
}
# The document has no proxy exceptions.
try {
    Set-VpnConnectionProxy -ConnectionName $profileName -ProxyServer '[2001:db8:1::8]:8080' -ExceptionPrefix '*.corp.example'
} catch {
    Write-Warning "The exceptions of the proxy were not set: $_"
}
Write-Host "Added $profileName"
