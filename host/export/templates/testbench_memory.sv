    wire [ADDRESS_WIDTH-1:0] @PORT@_awaddr, @PORT@_araddr;
    wire [7:0]               @PORT@_awlen, @PORT@_arlen;
    wire [2:0]               @PORT@_awsize, @PORT@_arsize;
    wire [1:0]               @PORT@_awburst, @PORT@_arburst, @PORT@_bresp, @PORT@_rresp;
    wire                     @PORT@_awvalid, @PORT@_awready, @PORT@_wvalid, @PORT@_wready, @PORT@_wlast;
    wire                     @PORT@_bvalid, @PORT@_bready;
    wire                     @PORT@_arvalid, @PORT@_arready, @PORT@_rvalid, @PORT@_rready, @PORT@_rlast;
    wire [DATA_WIDTH-1:0]    @PORT@_wdata, @PORT@_rdata;
    wire [DATA_WIDTH/8-1:0]  @PORT@_wstrb;

    @MODULE@_axi_memory #(
        .DATA_WIDTH(DATA_WIDTH), .ADDRESS_WIDTH(ADDRESS_WIDTH), .WORDS(MEMORY_WORDS), .SEED(32'h@SEED@)
    ) @PORT@_memory (
        .clk(ap_clk), .rst_n(ap_rst_n),
        .awaddr(@PORT@_awaddr), .awlen(@PORT@_awlen), .awsize(@PORT@_awsize), .awburst(@PORT@_awburst),
        .awvalid(@PORT@_awvalid), .awready(@PORT@_awready),
        .wdata(@PORT@_wdata), .wstrb(@PORT@_wstrb), .wlast(@PORT@_wlast), .wvalid(@PORT@_wvalid), .wready(@PORT@_wready),
        .bresp(@PORT@_bresp), .bvalid(@PORT@_bvalid), .bready(@PORT@_bready),
        .araddr(@PORT@_araddr), .arlen(@PORT@_arlen), .arsize(@PORT@_arsize), .arburst(@PORT@_arburst),
        .arvalid(@PORT@_arvalid), .arready(@PORT@_arready),
        .rdata(@PORT@_rdata), .rresp(@PORT@_rresp), .rlast(@PORT@_rlast), .rvalid(@PORT@_rvalid), .rready(@PORT@_rready)
    );
