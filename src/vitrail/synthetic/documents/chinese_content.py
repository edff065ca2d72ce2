"""What is written on Chinese documents: names and things to combine, and how fields are called."""

# ruff: noqa: RUF001 (the punctuation of Chinese is not that of English)

from __future__ import annotations

from vitrail.synthetic.documents.content import words_of

SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎"
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华文玉兰春红云龙飞志建国海山川林森雨雪晴月星光天宇浩然子涵欣怡"
CITIES = words_of("""
    北京 上海 广州 深圳 天津 重庆 成都 武汉 西安 杭州 南京 苏州 长沙 郑州 青岛 大连 厦门 昆明 福州 合肥 济南 沈阳
    长春 太原 贵阳 南宁 海口 兰州 西宁 银川 拉萨 宁波 温州 无锡 常州 徐州 扬州 泉州 珠海 佛山 东莞 中山 惠州 桂林
    柳州 洛阳 开封 大同 包头 烟台 威海 保定 唐山 承德 丹东 鞍山 吉林 延吉 宜昌 襄阳 岳阳 衡阳 三亚 丽江 大理 绵阳
    乐山 遵义 敦煌 台北 高雄 香港 澳门
    """)
STREETS = words_of(
    "中山 人民 解放 建设 和平 长江 黄河 文化 学院 东风 胜利 光明 花园 湖滨 江南 新华 青年 友谊 工业 南京 北京"
)
STREET_KINDS = ("路", "街", "巷", "大道", "里")
SHOP_NAMES = "福华大新光明春秋东西南北金玉兴隆和顺安康乐美佳好百千万家园林海山河云天星月"
SHOP_KINDS = ("超市", "书店", "面包店", "药店", "餐厅", "茶馆", "花店", "百货", "水果店", "文具店", "鞋店", "便利店")
COMPANY_KINDS = ("公司", "集团", "科技", "贸易", "设计", "印刷", "建筑", "物流", "能源", "传媒")
GOODS: tuple[tuple[str, str], ...] = (
    ("绿 红 黑 白 花 奶 冰 乌龙 茉莉 柠檬 姜 大麦", "茶"),
    ("苹果 橙子 桃子 梨 葡萄 西瓜 草莓 芒果 柠檬 菠萝 山楂 樱桃", "汁 酱 派 糖 干 酒 蛋糕"),
    ("牛肉 羊肉 鸡肉 鱼肉 虾仁 豆腐 番茄 鸡蛋 白菜 土豆 香菇 南瓜", "面 饭 汤 饼 包子 饺子 粥 火锅"),
    ("羊毛 棉布 丝绸 亚麻 皮革", "帽子 袜子 上衣 裙子 围巾 手套"),
    ("红 蓝 黑 绿 白 黄 紫 灰", "笔 纸 墨水 本子 胶带 夹子 信封"),
    ("钢 铜 铁 木 长 短", "钉子 钩子 锁 管子 锯子 锤子"),
    ("洗手 洗碗 沐浴 地板 玻璃", "液 刷 布 粉"),
)
SERVICES: tuple[tuple[str, str], ...] = (
    ("窗户 屋顶 花园 办公室 地板 发动机 锅炉 空调 泳池 围墙 门锁", "维修 清洗 安装 检查 租赁 保养 测量"),
    ("标志 网页 海报 菜单 图书 封面 照片 录音", "设计 印刷 校对 扫描 编辑"),
    ("税务 数据 销售 安全 法律 市场 钢琴 瑜伽 游泳 法语", "报告 课程 咨询 审计 培训"),
)
SUBJECTS = words_of(
    "游客 会员 订单 销量 来电 客人 图书 包裹 门票 树木 鸟类 单车 汽车 航班 餐数 房间 步数 进球 票数 照片"
)
TABLE_KINDS = ("名单", "成绩", "计划", "一览", "汇总", "排名", "登记", "统计")
VERBS = words_of("""
    保存 打开 关闭 删除 复制 粘贴 剪切 撤销 重做 查找 替换 打印 预览 导入 导出 发送 回复 转发 上传 下载 刷新 登录
    退出 注册 确认 取消 返回 下一步 完成 开始 停止 暂停 播放 录制 分享 收藏 编辑 移动 排序 筛选 合并 拆分 锁定
    解锁 隐藏 显示 放大 缩小 旋转 裁剪 标记 归档 设置 帮助
    """)
THINGS = words_of("文件 页面 照片 文字 列表 邮件 歌曲 图表 表格 链接 全部 备注 地图 卡片 代码")
THANKS = ("谢谢惠顾", "欢迎再来", "祝您愉快", "请保留收据", "不退不换", "感谢光临")
FORM_TITLES = tuple(
    f"{what}{kind}"
    for what in words_of(
        "会员 图书馆 旅行 学生 访客 租房 停车 牙科 俱乐部 课程 夏令营 宠物 贷款 体检 考试 送货 维修 酒店 求职"
    )
    for kind in ("登记表", "申请表", "卡", "记录", "通行证", "回执")
)
PLACES = tuple(
    f"{first}{second}"
    for first in words_of("城东 城西 老城 新城 湖边 学校 市中心 河边 山上 港口 南山 北门")
    for second in words_of("图书馆 游泳池 博物馆 健身房 咖啡馆 停车场 公园 银行 菜市场 体育馆")
)
HEADS = ("通知", "公告", "注意", "提醒", "重要通知", "招领", "寻物", "欢迎", "转让")

LABELS: dict[str, tuple[str, ...]] = {
    "total": ("合计", "总计", "应付", "总额"),
    "subtotal": ("小计", "税前"),
    "tax": ("税", "增值税", "税额"),
    "discount": ("折扣", "优惠", "代金券"),
    "tip": ("小费", "服务费"),
    "cash": ("现金", "实收"),
    "change": ("找零", "找回"),
    "card": ("银行卡", "刷卡"),
    "date": ("日期",),
    "time": ("时间",),
    "number": ("单号", "收据号", "小票号"),
    "phone": ("电话",),
    "invoice": ("账单", "发票", "付款单"),
    "invoice number": ("编号", "账单号", "号码"),
    "client": ("客户", "付款人", "抬头"),
    "sender": ("开票方",),
    "due date": ("付款期限", "到期"),
    "account": ("账号", "付至"),
    "item": ("项目", "内容", "说明"),
    "amount": ("金额", "价格"),
}
NOUNS: dict[str, str] = {
    "shop": "店名",
    "total": "总额",
    "subtotal": "小计",
    "tax": "税额",
    "discount": "折扣",
    "tip": "小费",
    "cash": "实收现金",
    "change": "找零",
    "card": "卡号",
    "date": "日期",
    "time": "时间",
    "number": "收据号",
    "invoice number": "账单号",
    "client": "客户",
    "sender": "开票方",
    "due date": "付款期限",
    "account": "账号",
    "title": "标题",
    "heading": "标题",
    "signature": "落款",
    "form number": "表格编号",
    "size": "大小",
}
COLUMN_HEADS: dict[str, tuple[str, ...]] = {
    "name": ("名称", "组别"),
    "city": ("城市", "地点", "站点"),
    "item": ("商品", "品名"),
    "person": ("姓名", "成员", "选手"),
    "company": ("公司", "厂家"),
    "number": ("分数", "库存", "重量", "产量", "收入", "速度", "深度", "长度"),
    "price": ("价格", "票价", "费用", "租金"),
    "time": ("时间", "出发", "到达"),
    "code": ("代码", "座位", "航班"),
}
FORM_FIELDS: tuple[tuple[str, str], ...] = (
    *(("姓名", "person"), ("教师", "person"), ("医生", "person"), ("联系人", "person"), ("签名", "person")),
    *(("城市", "city"), ("出生地", "city"), ("出发地", "city"), ("目的地", "city"), ("地址", "street")),
    *(("单位", "company"), ("雇主", "company"), ("学校", "company"), ("日期", "date"), ("生日", "date")),
    *(("开始", "date"), ("结束", "date"), ("有效期", "date"), ("时间", "time"), ("到达", "time")),
    *(("电话", "phone"), ("手机", "phone"), ("邮箱", "email"), ("房间", "number"), ("座位", "code")),
    *(("会员号", "code"), ("护照", "code"), ("驾照", "code"), ("车牌", "code"), ("订单号", "code")),
    *(("费用", "cost"), ("押金", "cost"), ("租金", "cost"), ("物品", "item"), ("产品", "item")),
    *(("礼品", "item"), ("服务", "service"), ("课程", "service"), ("体重", "number"), ("身高", "number")),
)
NOTICES: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("{}于{}关门。", (("place", "place", "哪里关门？"), ("time", "time", "几点关门？"))),
    ("{}于{}开放。", (("place", "place", "哪里开放？"), ("date", "date", "哪天开放？"))),
    ("请找{}，在{}室。", (("contact", "person", "要找谁？"), ("room", "number", "在几号房间？"))),
    ("{}前请拨打{}。", (("latest time", "time", "几点前打电话？"), ("phone", "phone", "打哪个电话？"))),
    ("去{}的车{}出发。", (("city", "city", "车去哪里？"), ("bus time", "time", "车几点出发？"))),
    ("拾到{}，酬金{}。", (("thing", "item", "拾到了什么？"), ("reward", "cost", "酬金多少？"))),
    ("出售{}，只要{}。", (("thing", "item", "出售什么？"), ("cost", "cost", "卖多少钱？"))),
    ("{}于{}演讲。", (("speaker", "person", "谁演讲？"), ("talk date", "date", "哪天演讲？"))),
    ("电梯{}停用至{}。", (("lift", "code", "哪部电梯停用？"), ("end date", "date", "停用到哪天？"))),
    ("门的密码是{}。", (("code", "code", "门的密码是什么？"),)),
    ("门票{}。", (("ticket price", "cost", "门票多少钱？"),)),
    ("我们搬到{}{}。", (("city", "city", "搬到哪个城市？"), ("street", "street", "搬到哪条街？"))),
    ("{}的包裹放在{}。", (("receiver", "person", "谁的包裹？"), ("street", "street", "包裹放在哪里？"))),
    ("{}于{}开课。", (("course", "service", "什么开课？"), ("start date", "date", "哪天开课？"))),
)
KINDS = {
    "button": "按钮",
    "icon": "图标",
    "entry": "菜单项",
    "menu": "菜单",
    "field": "输入框",
    "switch": "开关",
    "file": "文件",
    "setting": "设置",
}
SHAPE_NAMES = dict(
    zip(
        [
            "circle",
            "square",
            "triangle",
            "star",
            "heart",
            "cross",
            "diamond",
            "moon",
            "arrow",
            "ring",
            "hourglass",
            "bolt",
        ],
        ["圆形", "方块", "三角", "星星", "爱心", "十字", "菱形", "月亮", "箭头", "圆环", "沙漏", "闪电"],
        strict=True,
    )
)
