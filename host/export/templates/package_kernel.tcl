@HEADER@
# Packages the core as an XRT RTL kernel, @MODULE@.xo, in the folder that it is run in. Not tested: the vendor's tools are
# needed. With Vivado of a Vitis installation:
#   vivado -mode batch -source package_kernel.tcl
# After UG1393, "Packaging the RTL Code as a Vitis XO".

set name @MODULE@
set folder [file dirname [file normalize [info script]]]
set source [file normalize [file join $folder .. rtl $name.v]]
set packaged [file normalize ./packaged_$name]
set xo [file normalize ./$name.xo]

create_project -force package_$name ./package_$name
add_files -norecurse $source
set_property top $name [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir $packaged -vendor tailrace -library cores -taxonomy /KernelIP -import_files -set_current true
set core [ipx::current_core]
set_property name $name $core
set_property version @VERSION@ $core
set_property display_name "Tailrace @CONFIG@" $core
set_property sdx_kernel true $core
set_property sdx_kernel_type rtl $core

# Vivado finds the interfaces by the names of their ports; here they get their clock, and the clock its reset.
foreach interface {s_axi_control @MEMORY_PORTS@} {
    ipx::associate_bus_interfaces -busif $interface -clock ap_clk $core
}
ipx::associate_bus_interfaces -clock ap_clk -reset ap_rst_n $core
set polarity [ipx::add_bus_parameter POLARITY [ipx::get_bus_interfaces ap_rst_n -of_objects $core]]
set_property value ACTIVE_LOW $polarity

ipx::create_xgui_files $core
set_property supported_families {} $core
set_property auto_family_support_level level_2 $core
ipx::update_checksums $core
ipx::check_integrity -kernel -xrt $core
ipx::save_core $core
close_project -delete

file delete -force $xo
package_xo -xo_path $xo -kernel_name $name -ip_directory $packaged -kernel_xml [file join $folder kernel.xml]
puts "wrote $xo"
